"""An output file while it is written: bytes are put at their offsets, and the disk is set to work early."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPAN = 64 << 20  # bytes after which write-back is started
LONGEST = 1 << 20  # bytes of one write: while it lasts, no other thread can write into the file
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h


class OutputFile:
    """Writes into an open file; several threads may. durable: it will be synced, so write-back starts as it grows."""

    def __init__(self, fd: int, *, durable: bool) -> None:
        self.fd, self._durable = fd, durable
        self._cached = 0  # bytes since the last write-back; approximate where several threads write

    def write(self, data: memoryview, at: int) -> None:
        """Writes bytes at byte `at`."""
        done = 0
        while done < len(data):
            done += os.pwrite(self.fd, data[done : done + LONGEST], at + done)
        self._cached += done
        if self._durable and self._cached >= SPAN:
            self._cached = 0
            _start_writeback(self.fd)

    def reserve(self, at: int, length: int) -> None:
        """Sets disk aside for bytes that will come, fallocate(2); posix_fallocate(3) would write where this cannot."""
        if length >= LONGEST:
            _call("fallocate", self.fd, 0, ctypes.c_int64(at), ctypes.c_int64(length))

    def sync(self) -> None:
        """Waits until the disk has everything, where that is wanted."""
        if self._durable:
            os.fsync(self.fd)


@contextmanager
def created(path: Path, *, durable: bool) -> Iterator[OutputFile]:
    """A new file of mode 0644; never through a link, never over a file."""
    fd = os.open(path, CREATE, 0o644)
    try:
        os.fchmod(fd, 0o644)  # whatever the umask
        yield OutputFile(fd, durable=durable)
    finally:
        os.close(fd)


def _start_writeback(fd: int) -> None:
    """Starts to write the cached pages of a file to the disk, sync_file_range(2)."""
    _call("sync_file_range", fd, ctypes.c_int64(0), ctypes.c_int64(0), SYNC_FILE_RANGE_WRITE)


def _call(name: str, *words: object) -> None:
    """A call of Linux that is a hint: without it, or after an error, only time is lost."""
    try:
        call = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):  # no Linux
        return
    call(*words)
