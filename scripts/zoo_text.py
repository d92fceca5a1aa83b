"""English prose for small models: Jane Austen's six novels, of Debian's package r-cran-janeaustenr.

The novels are in the public domain. The package holds each as an R vector of lines: a length of four bytes, then the
vector as R serialises it (XDR, version 3), compressed with zlib.
"""

import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "r-cran-janeaustenr"
DATA = "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
STRING_VECTOR, STRING = 16, 9  # R's types, in the lowest byte of the flags of an item


def fetch() -> bytes:
    """The package's data file, by `apt-get download`.

    Raises:
        subprocess.CalledProcessError: the package cannot be had.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (package,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        return (Path(folder) / DATA).read_bytes()


def novels(data: bytes) -> Iterator[list[str]]:
    """The lines of each novel, in the order of the file: Emma first, Sense and Sensibility last.

    Raises:
        ValueError: the data are not what R writes.
    """
    while data:
        (size,) = struct.unpack_from(">I", data)
        reader = zlib.decompressobj()
        text = reader.decompress(data[4:])
        if len(text) != size:
            raise ValueError(f"a novel of {len(text)} bytes, where {size} were announced")
        yield _lines(text)
        data = reader.unused_data


def _lines(stored: bytes) -> list[str]:
    """The strings of a serialised vector: a head of 23 bytes and the encoding's name, then a length and each string."""
    start = 14 + 4 + struct.unpack_from(">i", stored, 14)[0]
    flags, count = struct.unpack_from(">ii", stored, start)
    if stored[:2] != b"X\n" or flags & 0xFF != STRING_VECTOR:
        raise ValueError("no vector of strings in R's XDR format")
    found, at = [], start + 8
    for _ in range(count):
        flags, size = struct.unpack_from(">ii", stored, at)
        if flags & 0xFF != STRING:
            raise ValueError(f"a string was expected at byte {at}")
        found.append(stored[at + 8 : at + 8 + size].decode())
        at += 8 + size
    return found


def prose(data: bytes) -> bytes:
    """All novels as one text: each paragraph on one line, an empty line between two."""
    paragraphs: list[str] = []
    for lines in novels(data):
        blocks = "\n".join(line.strip() for line in lines).split("\n\n")
        paragraphs += [" ".join(block.split()) for block in blocks if block.strip()]
    return "\n\n".join(paragraphs).encode()


def parts(text: bytes) -> tuple[bytes, bytes]:
    """What models are trained on, and the last tenth, which is held out."""
    cut = len(text) - len(text) // 10
    return text[:cut], text[cut:]
