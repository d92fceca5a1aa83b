"""Where the bytes of a file go: into the page cache, or past it to the disk.

A copy through the page cache needs a page of memory for each of its own, takes it from whatever else was cached, and
has the disk written later. Past it (open(2), O_DIRECT) a write ends when the disk has the bytes and takes less of the
processor; so where a file must be durable, and another thread has work meanwhile, whole pages go past it.
"""

import errno
import fcntl
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from converters.linux_calls import reserve
from converters.writeback import Writeback

PAGE: Final = 4096  # bytes; a multiple of every sector, so offset, length and address may be a multiple of it
LEAST: Final = 16 * PAGE  # bytes below which the page cache is as cheap
WRITTEN: Final = 2 << 20  # bytes to write past it at once, so that the disk is asked less often
RESERVED: Final = 1 << 20  # bytes for which disk is set aside
DIRECT: Final[int] = getattr(os, "O_DIRECT", 0)


class Outlet:
    """Writes into a file through the page cache; what is to be durable starts to go to the disk early.

    turn: threads that write into one file take it for each write. They could only spin for the file's own lock.
    """

    def __init__(self, fd: int, *, durable: bool, turn: AbstractContextManager[object] | None = None) -> None:
        self._fd, self._turn = fd, turn or nullcontext()
        self._writeback = Writeback(fd, wanted=durable)

    def expect(self, at: int, length: int) -> None:
        """Bytes will come for byte `at` of the file and on: disk that is set aside is written to faster."""
        if length >= RESERVED:
            reserve(self._fd, at, length)

    def write(self, data: memoryview, at: int) -> None:
        """Writes bytes at byte `at` of the file."""
        done = 0
        with self._turn:
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], at + done)
        if data:
            self._writeback.wrote(at, len(data))

    def finish(self) -> None:
        """Everything is written: the rest may go to the disk."""
        self._writeback.start()


class DirectOutlet(Outlet):
    """Writes whole pages past the page cache, until the filesystem says that it cannot.

    Bytes must lie in memory as they do in the file: at the same place within a page.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd, durable=True)
        self._able, self._direct = DIRECT != 0, False

    def write(self, data: memoryview, at: int) -> None:
        """Writes bytes at byte `at` of the file: ragged ends through the page cache, pages past it."""
        head = min(len(data), -at % PAGE)
        pages = (len(data) - head) // PAGE * PAGE
        if not self._able or pages < LEAST:
            self._cached(data, at)
            return
        self._cached(data[:head], at)
        done = head + self._past(data[head : head + pages], at + head)
        self._cached(data[done:], at + done)

    def finish(self) -> None:
        """Everything is written: the rest may go to the disk, and the file is as it was opened."""
        self._switch(False)
        super().finish()

    def _cached(self, data: memoryview, at: int) -> None:
        if data:
            self._switch(False)
            super().write(data, at)

    def _past(self, data: memoryview, at: int) -> int:
        """Writes pages; gives the number of bytes that were written."""
        try:
            self._switch(True)
            return os.pwrite(self._fd, data, at)
        except OSError as error:
            self._able = False
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            return 0

    def _switch(self, direct: bool) -> None:
        if direct != self._direct:
            flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | DIRECT if direct else flags & ~DIRECT)
            self._direct = direct
