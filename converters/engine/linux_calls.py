"""What Python does not offer: calls of Linux, hints whose lack costs nothing but time, and addresses."""

import ctypes
import mmap
import sys
from collections.abc import Callable
from functools import cache

SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h
_INT, _OFFSET, _FLAGS = ctypes.c_int, ctypes.c_int64, ctypes.c_uint


def start_writeback(fd: int, begin: int, length: int) -> None:
    """Starts the write-back of a range of a file, sync_file_range(2)."""
    sync = _call("sync_file_range", _INT, _OFFSET, _OFFSET, _FLAGS)
    if sync:
        sync(fd, begin, length, SYNC_FILE_RANGE_WRITE)


def reserve(fd: int, begin: int, length: int) -> None:
    """Sets disk aside for a range of a file, fallocate(2); posix_fallocate(3) would write where this cannot."""
    allocate = _call("fallocate", _INT, _INT, _OFFSET, _OFFSET)
    if allocate:
        allocate(fd, 0, begin, length)


def address(memory: mmap.mmap) -> int:
    """Where writable memory begins."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


@cache
def _call(name: str, *kinds: type) -> Callable[..., int] | None:
    """A function of the C library, None where there is none of that name."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    found.argtypes = kinds
    call: Callable[..., int] = found
    return call
