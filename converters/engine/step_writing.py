"""Steps written into a file, part by part, each told to a digest and to whoever watches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from converters.engine.buffers import BufferPool
from converters.engine.chunks import Maker
from converters.engine.digest import Digest
from converters.engine.output_file import OutputFile
from converters.engine.steps import CHUNK, Step, parts
from converters.errors import Interrupted


@dataclass(frozen=True)
class Writing:
    """How to write: `hash` every file, `fsync` it, with how many `threads`; `progress` is told of bytes written.

    errors: gets the largest error of each tensor that is cast. nonfinite: gets the number of values that are NaN or
    infinite, by key of the source; only hashed bytes are looked at.
    """

    hash: bool = True
    fsync: bool = True
    threads: int = 2
    progress: Callable[[int], None] = lambda nbytes: None
    errors: dict[str, float] = field(default_factory=dict)
    nonfinite: dict[str, int] = field(default_factory=dict)
    stop: Event = field(default_factory=Event)


@dataclass(frozen=True)
class Writer:
    """Writes steps; several threads may share one writer, and its buffers."""

    maker: Maker
    how: Writing
    pool: BufferPool

    def write(self, steps: Iterable[Step], file: OutputFile, digest: Digest) -> None:
        """Writes steps into a file, telling the digest every byte in the order of the file.

        Raises:
            Interrupted: another thread failed, or the user stopped the run.
        """
        for step in steps:
            file.reserve(step.at, step.length)
            for part in parts(step, CHUNK):
                self._write(part, file, digest)
                if self.how.stop.is_set():
                    raise Interrupted("stopped")
                self.how.progress(part.length)

    def _write(self, part: Step, file: OutputFile, digest: Digest) -> None:
        buffer = self.pool.get()
        give_back = partial(self.pool.put, buffer)
        try:
            data = self.maker.make(part, buffer)
            file.write(data, part.at)
        except BaseException:
            give_back()  # or the other threads would wait for it for ever
            raise
        digest.take(data, give_back)
