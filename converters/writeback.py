"""Early write-back: Linux is asked to write dirty pages while the copy goes on, so that fsync finds little left."""

import ctypes
import sys
from collections.abc import Callable
from functools import cache

SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h
SPAN = 64 << 20  # bytes between two early write-backs


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        found = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return found


def start_writeback(fd: int, begin: int, length: int) -> None:
    """Starts the write-back of a range of a file; a hint, so a system that lacks it loses nothing."""
    sync = _sync_file_range()
    if sync:
        sync(fd, begin, length, SYNC_FILE_RANGE_WRITE)


class Writeback:
    """Starts write-backs of one file as it grows, if they are wanted."""

    def __init__(self, fd: int, *, wanted: bool) -> None:
        self._fd, self._wanted = fd, wanted
        self._low, self._high, self._written = 0, 0, 0

    def wrote(self, at: int, length: int) -> None:
        """`length` bytes were written at `at`."""
        if self._wanted:
            self._low = min(self._low, at) if self._written else at
            self._high = max(self._high, at + length) if self._written else at + length
            self._written += length
            if self._written >= SPAN:
                self.start()

    def start(self) -> None:
        """What was written since the last start shall go to the disk."""
        if self._written:
            start_writeback(self._fd, self._low, self._high - self._low)
        self._written = 0
