"""Opening what lies on disk: regular files alone, and as many bytes as they had when they were opened.

A named pipe would be waited for, and a device has no end. So the kind of a file is looked at before it is opened.
"""

import os
import re
from io import BufferedReader
from pathlib import Path
from stat import S_ISBLK, S_ISCHR, S_ISDIR, S_ISFIFO, S_ISREG, S_ISSOCK

from converters.errors import UnsafeFile

POINTER, LONGEST_POINTER = b"version https://git-lfs.github.com/spec/v1\n", 1024
KINDS = (
    (S_ISDIR, "a folder"),
    (S_ISFIFO, "a named pipe"),
    (S_ISCHR, "a device"),
    (S_ISBLK, "a device"),
    (S_ISSOCK, "a socket"),
)


def open_regular(path: Path) -> BufferedReader:
    """A regular file, open for reading; links are followed.

    Raises:
        UnsafeFile: it is something else, such as a pipe or a device.
        OSError: it cannot be opened.
    """
    check_regular(path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # not even a pipe put there just now is waited for
    file = os.fdopen(fd, "rb")
    if not S_ISREG(os.fstat(fd).st_mode):
        file.close()
        raise _refusal(path, os.fstat(fd).st_mode)
    return file


def check_regular(path: Path) -> int:
    """The size of a regular file in bytes; links are followed.

    Raises:
        UnsafeFile: it is something else.
        OSError: there is no such file.
    """
    found = path.stat()
    if not S_ISREG(found.st_mode):
        raise _refusal(path, found.st_mode)
    if found.st_size <= LONGEST_POINTER:
        _refuse_pointer(path)
    return found.st_size


def _refuse_pointer(path: Path) -> None:
    """Refuses what git leaves in place of a large file where git-lfs is not installed: three lines that name it."""
    with path.open("rb") as file:
        if not file.read(len(POINTER)) == POINTER:
            return
        found = re.search(rb"^size (\d{1,15})$", file.read(LONGEST_POINTER), re.MULTILINE)
    size = f" of {int(found[1]):,} bytes" if found else ""
    raise UnsafeFile(
        f"{path} is a git-lfs pointer to the file{size}, not the file itself; install git-lfs and run `git lfs pull`,"
        f" or download it"
    )


def read_regular(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        UnsafeFile: it is larger, or something else than a regular file.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise UnsafeFile(f"{path} has {size} bytes, at most {most} are allowed")
        return file.read(size)


def check_folder(folder: Path) -> None:
    """Refuses a model folder in which anything but files and folders lies.

    Raises:
        UnsafeFile: naming the first such entry.
    """
    for path in sorted(folder.iterdir()):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise _refusal(path, path.stat().st_mode)


def _refusal(path: Path, mode: int) -> UnsafeFile:
    kind = next((name for is_kind, name in KINDS if is_kind(mode)), "something else")
    return UnsafeFile(f"{path} is {kind}, expected a regular file; put a copy of the file there")
