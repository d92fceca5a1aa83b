"""Steps written into a file, in chunks, each told to a digest and to whoever watches."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event

from converters.clone import Cloning
from converters.digest import CHUNK, Digest
from converters.errors import Interrupted
from converters.making import Maker, Spaces
from converters.steps import Cast, Copy, Gather, Literal, Step
from converters.writeback import Writeback


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

    def write(self, steps: Sequence[Step], fd: int, digest: Digest) -> None:
        """Writes steps into a file, telling the digest every byte in the order of the file."""
        writeback = Writeback(fd, wanted=self.how.fsync)
        for step in steps:
            for at, length in self._written(step, fd, digest):
                if self.how.stop.is_set():
                    raise Interrupted("stopped")
                writeback.wrote(at, length)
                self.how.progress(length)
        writeback.start()

    def _written(self, step: Step, fd: int, digest: Digest) -> Iterator[tuple[int, int]]:
        """Writes a step chunk by chunk; yields where and how many bytes."""
        return self._tile(step, fd, digest) if isinstance(step, Gather) else self._chunks(step, fd, digest)

    def _chunks(self, step: Copy | Literal | Cast, fd: int, digest: Digest) -> Iterator[tuple[int, int]]:
        for start in range(0, step.length, CHUNK):
            length = min(CHUNK, step.length - start)
            buffer = digest.buffer()
            self.maker.fill(step, start, buffer[:length])
            _write(fd, buffer[:length], step.at + start)
            digest.take(buffer, length)
            yield step.at + start, length

    def _tile(self, step: Gather, fd: int, digest: Digest) -> Iterator[tuple[int, int]]:
        space, at = self.spaces.take(), step.at
        try:
            for data in self.maker.tile(step, space):
                _write(fd, data, at)
                digest.lend(data)
                yield at, len(data)
                at += len(data)
        finally:
            digest.lend(memoryview(b""), lambda: self.spaces.give(space))


def _write(fd: int, data: memoryview, at: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], at + done)
