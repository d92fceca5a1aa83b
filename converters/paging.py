"""Files whose bytes come when they are read: stand-ins that somebody fills, part by part, and empties again.

A reader says which bytes it is about to read. Whoever has put stand-ins into a folder brings them there first. Bytes
that nobody asked for may be holes, which read as zeros, so every reader of weights has to ask.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

CHUNK = 1 << 20  # bytes


class Pager(Protocol):
    """Who fills the stand-ins of a folder."""

    def need(self, name: str, begin: int, end: int) -> None:
        """Brings the bytes `begin` to `end` (without it) of a file; they stay until others are asked for."""
        ...

    def report(self) -> Mapping[str, Any]:
        """What conversion.json says of how the bytes came."""
        ...


_PAGERS: dict[Path, Pager] = {}


@contextmanager
def paged(folder: Path, pager: Pager) -> Iterator[None]:
    """Files of a folder that are read inside are filled by a pager."""
    place = _placed(folder)
    _PAGERS[place] = pager
    try:
        yield
    finally:
        del _PAGERS[place]


def pager_of(file: Path) -> Pager | None:
    """Who fills a file, or the files of a folder; None for what lies on disk."""
    if not _PAGERS:
        return None
    place = _placed(file)
    return _PAGERS.get(place) or _PAGERS.get(place.parent)


def _placed(path: Path) -> Path:
    """A path from the root, without `..`. Links stay: a stand-in may be a link, and is known by the folder it is in."""
    return Path(os.path.normpath(path.absolute()))


def need(file: Path, begin: int, end: int) -> None:
    """Says that bytes of a file will be read now; nothing happens where they lie on disk anyway."""
    if (pager := pager_of(file)) and begin < end:
        pager.need(file.name, begin, end)


def read(file: Path, begin: int, end: int) -> bytearray:
    """Bytes of a file, asked for and read part by part, so that not all of them are on disk at a time.

    Raises:
        EOFError: the file ends before.
    """
    found = bytearray(end - begin)
    with file.open("rb") as opened:
        for at in range(begin, end, CHUNK):
            view = memoryview(found)[at - begin : at - begin + CHUNK]
            need(file, at, at + len(view))
            opened.seek(at)
            if opened.readinto(view) != len(view):
                raise EOFError(f"{file} ends before byte {at + len(view)}")
    return found
