"""The files of a checkpoint, open for reading."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from converters.checkpoint import Checkpoint, FileState
from converters.errors import UnsafeFile


class SourceFiles:
    """Ranged reads by the number of a file; several threads may read at once."""

    def __init__(self, source: Checkpoint, descriptors: Sequence[int]) -> None:
        self.source = source
        self.descriptors = descriptors

    def read(self, file: int, begin: int, into: Sequence[memoryview]) -> None:
        """Fills views, one after the other, with the bytes of a file from `begin` on.

        Raises:
            UnsafeFile: the file ends before.
        """
        wanted = sum(map(len, into))
        got = os.preadv(self.descriptors[file], into, begin)
        while got < wanted:
            more = os.preadv(self.descriptors[file], _behind(into, got), begin + got)
            if not more:
                raise UnsafeFile(f"{self.source.files[file]} ended at byte {begin + got} while it was read")
            got += more

    def check_unchanged(self) -> None:
        """Raises UnsafeFile if a file is not what it was when its header was read."""
        for path, fd, state in zip(self.source.files, self.descriptors, self.source.states, strict=True):
            if FileState.of(fd) != state:
                raise UnsafeFile(f"{path} changed while it was converted; nothing was kept")


def _behind(views: Sequence[memoryview], skip: int) -> list[memoryview]:
    """What is left of views when their first bytes have been filled."""
    left = []
    for view in views:
        if skip < len(view):
            left.append(view[skip:])
        skip = max(0, skip - len(view))
    return left


@contextmanager
def opened(source: Checkpoint) -> Iterator[SourceFiles]:
    """The files of a checkpoint, closed at the end."""
    with ExitStack() as stack:
        descriptors = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in source.files]
        for fd in descriptors:
            stack.callback(os.close, fd)
        yield SourceFiles(source, descriptors)
