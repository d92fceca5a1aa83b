"""Early write-back: Linux is asked to write dirty pages while the copy goes on, so that fsync finds little left."""

import ctypes
import sys
from collections.abc import Callable
from functools import cache

SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h


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
