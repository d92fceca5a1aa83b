"""Where the bytes of a file go: into the page cache, or past it to the disk.

A copy through the page cache needs a page of memory for each of its own, takes it from whatever else was cached, and
has the disk written later. Past it (open(2), O_DIRECT) a write ends when the disk has the bytes and takes less of the
processor; so where a file must be durable, and another thread has work meanwhile, whole pages go past it.
"""

import errno
import mmap
import os
from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final, Self, cast

from converters.engine.linux_calls import reserve
from converters.engine.writeback import Writeback

PAGE: Final = max(4096, mmap.PAGESIZE)  # bytes; a multiple of every sector, so offset, length and address may be, too
LEAST: Final = 16 * PAGE  # bytes below which the page cache is as cheap
RESERVED: Final = 1 << 20  # bytes for which disk is set aside
DIRECT: Final[int] = getattr(os, "O_DIRECT", 0)


class UnderWay:
    """A write that has begun: `data` to byte `at` of a file."""

    def __init__(self, data: memoryview, at: int) -> None:
        self.data, self.at = data, at
        self._going = Lock()
        self._going.acquire()

    def done(self) -> None:
        """It has ended, for better or worse."""
        self._going.release()

    def wait(self) -> None:
        """Waits for its end, once."""
        self._going.acquire()


class Outlet:
    """Writes into a file through the page cache; what is to be durable starts to go to the disk early.

    turn: threads that write into one file take it for each write. They could only spin for the file's own lock.
    """

    def __init__(self, fd: int, *, durable: bool, turn: AbstractContextManager[object] | None = None) -> None:
        self._fd, self._turn = fd, turn or nullcontext()
        self._writeback = Writeback(fd, wanted=durable)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """The file will be closed."""

    def expect(self, at: int, length: int) -> None:
        """Bytes will come for byte `at` of the file and on: disk that is set aside is written to faster."""
        if length >= RESERVED:
            reserve(self._fd, at, length)

    def write(self, data: memoryview, at: int) -> UnderWay | None:
        """Writes bytes at byte `at` of the file; gives None, or what can be waited for if they are not written yet."""
        done = 0
        with self._turn:
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], at + done)
        if data:
            self._writeback.wrote(at, len(data))
        return None

    def finish(self) -> None:
        """Everything is written: the rest may go to the disk."""
        self._writeback.start()


class DirectOutlet(Outlet):
    """Writes whole pages past the page cache, in a thread of its own, until the filesystem says that it cannot.

    Bytes must lie in memory as they do in the file, at the same place within a page, and stay there until they are
    written. An error is raised by the next write, or at the end.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd, durable=True)
        self._past, self._able = _reopened(fd), True
        self._error: Exception | None = None
        self._wanted: SimpleQueue[UnderWay | None] = SimpleQueue()
        self._thread = Thread(target=self._consume, daemon=True)
        self._thread.start()

    def __exit__(self, *raised: object) -> None:
        """Waits for what is under way, for the file will be closed."""
        self._end()
        if self._past is not None:
            os.close(self._past)

    def write(self, data: memoryview, at: int) -> UnderWay | None:
        """Writes ragged ends through the page cache at once, and begins to write pages past it."""
        head = min(len(data), -at % PAGE)
        pages = (len(data) - head) // PAGE * PAGE
        if self._error:
            raise self._error
        if self._past is None or not self._able or pages < LEAST:
            return super().write(data, at)
        super().write(data[:head], at)
        super().write(data[head + pages :], at + head + pages)
        begun = UnderWay(data[head : head + pages], at + head)
        self._wanted.put(begun)
        return begun

    def finish(self) -> None:
        """Everything is written: the rest may go to the disk."""
        self._end()
        if self._error:
            raise self._error
        super().finish()

    def _end(self) -> None:
        self._wanted.put(None)
        self._thread.join()

    def _consume(self) -> None:
        while begun := self._wanted.get():
            try:
                done = self._written_past(begun) if self._able else 0
                super().write(begun.data[done:], begun.at + done)
            except Exception as error:
                self._error = error
            finally:
                begun.done()

    def _written_past(self, begun: UnderWay) -> int:
        """Writes pages; gives the number of bytes that were written."""
        try:
            return os.pwrite(cast(int, self._past), begun.data, begun.at)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            self._able = False
            return 0


def _reopened(fd: int) -> int | None:
    """The same file, open for writes past the page cache; None where there are none."""
    if not DIRECT or os.fstat(fd).st_blksize > PAGE:  # a page would share its block with another that is cached
        return None
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC | DIRECT)
    except OSError:
        return None
