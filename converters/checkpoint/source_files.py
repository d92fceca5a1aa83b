"""The files of a checkpoint, open for reading."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from converters.checkpoint.checkpoint import Checkpoint, FileState
from converters.errors import UnsafeFile
from converters.paging import need, pager_of


class SourceFiles:
    """Ranged reads by the number of a file; several threads may read at once."""

    def __init__(self, source: Checkpoint, descriptors: Sequence[int]) -> None:
        self.source = source
        self.descriptors = descriptors
        self._maps: dict[int, memoryview] = {}

    def read(self, file: int, begin: int, into: memoryview) -> None:
        """Fills a view with the bytes of a file from `begin` on.

        Raises:
            UnsafeFile: the file ends before.
        """
        need(self.source.files[file], begin, begin + len(into))
        got = 0
        while got < len(into):
            more = os.preadv(self.descriptors[file], [into[got:]], begin + got)
            if not more:
                raise UnsafeFile(f"{self.source.files[file]} ended at byte {begin + got} while it was read")
            got += more

    def read_tensor(self, key: str, begin: int, into: memoryview) -> None:
        """Fills a view with the bytes of a tensor from `begin` on, as they are stored."""
        stored = self.source.tensors[key]
        self.read(stored.shard, stored.begin + begin, into)

    def mapped(self, key: str) -> memoryview:
        """The file from a tensor's first byte on, mapped into memory: for elements that change their order.

        Raises:
            UnsafeFile: the file has become shorter.
        """
        import mmap

        self.check_length(key)
        stored = self.source.tensors[key]
        need(stored.file, stored.begin, stored.begin + stored.nbytes)
        if stored.shard not in self._maps:
            fd = self.descriptors[stored.shard]
            self._maps[stored.shard] = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))
        return self._maps[stored.shard][stored.begin :]

    def check_length(self, key: str) -> None:
        """Raises UnsafeFile if the file of a tensor has become shorter: reading it would then end the process."""
        shard = self.source.tensors[key].shard
        if os.fstat(self.descriptors[shard]).st_size < self.source.states[shard].nbytes:
            raise UnsafeFile(f"{self.source.files[shard]} became shorter while it was read")

    def check_unchanged(self) -> None:
        """Raises UnsafeFile if a file has changed since its header was read."""
        for path, fd, state in zip(self.source.files, self.descriptors, self.source.states, strict=True):
            if FileState.of(fd) != state and not pager_of(path):
                raise UnsafeFile(f"{path} changed while it was converted; nothing was kept")


@contextmanager
def opened(source: Checkpoint) -> Iterator[SourceFiles]:
    """The files of a checkpoint, closed at the end."""
    with ExitStack() as stack:
        descriptors = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in source.files]
        for fd in descriptors:
            stack.callback(os.close, fd)
        yield SourceFiles(source, descriptors)
