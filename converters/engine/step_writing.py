"""Steps written into a file, in chunks, each told to a digest and to whoever watches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from converters.engine.chunks import Maker, Spaces
from converters.engine.clone import Cloning
from converters.engine.digest import CHUNK, Digest, windows
from converters.engine.outlet import PAGE, Outlet
from converters.engine.steps import Cast, Copy, Gather, Literal, Sheet, Step
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
    """Does steps; several threads may share one writer."""

    maker: Maker
    how: Writing
    spaces: Spaces = field(default_factory=Spaces)

    def uncloned(self, step: Step, fd: int, cloning: Cloning) -> Sequence[Step]:
        """Clones what it can of a step; gives what remains to be written."""
        if not isinstance(step, Copy):
            return [step]
        rest = list(cloning.rest(step, self.maker.files.descriptors[step.file], fd))
        self.how.progress(step.length - sum(part.length for part in rest))
        return rest

    def write(self, steps: Sequence[Step], outlet: Outlet, digest: Digest) -> None:
        """Writes steps into a file, telling the digest every byte in the order of the file."""
        for step in steps:
            outlet.expect(step.at, step.length)
            for length in self._written(step, outlet, digest):
                if self.how.stop.is_set():
                    raise Interrupted("stopped")
                self.how.progress(length)

    def _written(self, step: Step, outlet: Outlet, digest: Digest) -> Iterator[int]:
        """Writes a step chunk by chunk; yields how many bytes."""
        if isinstance(step, Gather | Sheet):
            return self._moved(step, outlet, digest)
        return self._chunks(step, outlet, digest)

    def _chunks(self, step: Copy | Literal | Cast, outlet: Outlet, digest: Digest) -> Iterator[int]:
        # a cast needs whole elements, and a window of the file may end within one
        parts = windows(0, step.length, CHUNK - PAGE) if isinstance(step, Cast) else windows(step.at, step.length)
        for start, length in parts:
            at = step.at + start
            buffer = digest.buffer()
            data = buffer[at % PAGE :][:length]
            self.maker.fill(step, start, data)
            digest.take(buffer, data, outlet.write(data, at))
            yield length

    def _moved(self, step: Gather | Sheet, outlet: Outlet, digest: Digest) -> Iterator[int]:
        at = step.at
        for part in self.maker.moved(step):
            space = self.spaces.take()
            try:
                for data in part(space):
                    digest.lend(data, outlet.write(data, at))
                    yield len(data)
                    at += len(data)
            finally:
                digest.lend(memoryview(b""), None, partial(self.spaces.give, space))
