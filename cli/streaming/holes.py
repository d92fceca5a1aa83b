"""Disk given back in the middle of a file: fallocate(2) with FALLOC_FL_PUNCH_HOLE."""

import ctypes
import os
import tempfile
from pathlib import Path

from converters.errors import TargetRefused

KEEP_SIZE, PUNCH_HOLE = 1, 2  # linux/falloc.h
TRIAL = 1 << 20  # bytes


def punch(fd: int, begin: int, length: int) -> None:
    """Takes bytes out of a file, which then read as zeros and take no disk; its size stays.

    Raises:
        OSError: the filesystem, or the system, cannot do it.
    """
    try:
        call = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        raise OSError("this system has no fallocate") from None
    if call(fd, KEEP_SIZE | PUNCH_HOLE, ctypes.c_int64(begin), ctypes.c_int64(length)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def check_can_punch(place: Path) -> None:
    """Tries it in a folder, in a file without a name.

    Raises:
        TargetRefused: naming the folder and why its filesystem cannot.
    """
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\1" * TRIAL)
            file.flush()
            os.fsync(file.fileno())  # until then some filesystems have no blocks to count
            taken = os.fstat(file.fileno()).st_blocks
            punch(file.fileno(), 0, TRIAL)
            if os.fstat(file.fileno()).st_blocks >= taken:
                raise OSError("its blocks are not given back")
    except OSError as error:
        why = error.strerror or str(error)
        raise TargetRefused(
            f"--stream gives disk back in the middle of files, which the filesystem of {place} cannot ({why});"
            " choose an --output on another one (ext4, XFS, btrfs, tmpfs), or leave --stream out"
        ) from None
