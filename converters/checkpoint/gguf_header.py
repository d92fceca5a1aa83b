"""Headers of GGUF files (the format of ggml and llama.cpp), versions 2 and 3, read with the standard library.

Format (ggml `docs/gguf.md`): magic, version, number of tensors and of metadata entries; then the entries (name, type,
value), then for each tensor its name, sizes (fastest axis first), type and offset into the data, which begin at the
next multiple of `general.alignment`. All numbers are little-endian. Every count, length and offset is compared with
the size of the file before it is used, so that no header can make the reader allocate or seek beyond it.
"""

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from converters.checkpoint.regular_files import open_regular
from converters.checkpoint.safetensors_header import MOST_TENSORS
from converters.errors import UnsafeFile

MAGIC = b"GGUF"
ALIGNMENT = "general.alignment"
MOST_ENTRIES = 1 << 16
LONGEST_NAME = 1 << 10  # bytes
MOST_WORDS = 1 << 21  # strings of all arrays together; the largest vocabularies have a few hundred thousand
LONGEST_STRING = 1 << 16  # bytes; longer strings, such as templates, are skipped
MOST_KEPT = 1 << 23  # bytes of all strings that are kept
KEPT = 64  # arrays of more elements, such as the words of a tokenizer, are skipped
MOST_DIMS = 4
WIDEST = 1 << 20  # the largest alignment that is allowed, in bytes

STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

# Type number -> (name, elements of a block, bytes of a block), from ggml.h.
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor of one file: `shape` slowest axis first, `kind` a type of ggml, `begin` and `nbytes` in the file."""

    key: str
    kind: str
    shape: tuple[int, ...]
    begin: int
    nbytes: int


@dataclass(frozen=True)
class GgufHeader:
    """What a file says: metadata by name (long arrays left out, floats as they read back), tensors by position."""

    version: int
    metadata: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]


def is_gguf(path: Path) -> bool:
    """Whether a file begins with the magic number."""
    with open_regular(path) as file:
        return file.read(4) == MAGIC


def read_gguf(path: Path) -> GgufHeader:
    """Reads and checks the header of a GGUF file.

    Raises:
        UnsafeFile: truncated, malformed, of another version, or its tensors overlap or leave the file.
    """
    try:
        with open_regular(path) as file:
            return _parse(_Cursor(file, os.fstat(file.fileno()).st_size))
    except OSError as error:
        raise UnsafeFile(f"{path} cannot be read: {error.strerror}") from None
    except UnsafeFile as error:
        raise UnsafeFile(f"{path} is not a valid GGUF file: {error}") from None


@dataclass
class _Cursor:
    """A file read forward, `at` bytes from its start; nothing beyond its `size` is ever asked for.

    kept: bytes of the strings that were kept. words: strings of the arrays that were skipped.
    """

    file: BinaryIO
    size: int
    at: int = 0
    kept: int = 0
    words: int = 0

    def bytes(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        self._claim(count, what)
        return self.file.read(count)

    def skip(self, count: int, what: str) -> None:
        """Passes over `count` bytes."""
        self._claim(count, what)
        self.file.seek(self.at)

    def _claim(self, count: int, what: str) -> None:
        if count > self.size - self.at:
            raise UnsafeFile(f"{what} needs {count} bytes at byte {self.at}, the file ends at {self.size}")
        self.at += count

    def number(self, form: str, what: str) -> Any:
        """One number of a `struct` format character."""
        (value,) = struct.unpack(f"<{form}", self.bytes(struct.calcsize(f"<{form}"), what))
        return value

    def text(self, longest: int, what: str) -> str:
        """A string: its length in bytes, then UTF-8."""
        length = self.number("Q", what)
        if length > longest:
            raise UnsafeFile(f"{what} should have {length} bytes, at most {longest} are allowed")
        return self.letters(length, what)

    def short_text(self, what: str) -> str | None:
        """A string; None for one that is too long to be kept, which is passed over."""
        length = self.number("Q", what)
        if length > LONGEST_STRING:
            self.skip(length, what)
            return None
        return self.letters(length, what)

    def letters(self, length: int, what: str) -> str:
        """`length` bytes of UTF-8."""
        self.kept += length
        if self.kept > MOST_KEPT:
            raise UnsafeFile(f"its strings have more than {MOST_KEPT} bytes in all, with that of {what}")
        try:
            return self.bytes(length, what).decode()
        except UnicodeDecodeError:
            raise UnsafeFile(f"{what} is not UTF-8") from None


def _parse(cursor: _Cursor) -> GgufHeader:
    magic, version = cursor.bytes(4, "the magic number"), cursor.number("I", "the version")
    if magic != MAGIC:
        raise UnsafeFile(f"it begins with {magic!r}, expected {MAGIC!r}")
    if version not in (2, 3):
        big = int.from_bytes(version.to_bytes(4, "little"), "big")
        why = "it is big-endian" if big in (2, 3) else f"it is of version {version}"
        raise UnsafeFile(
            f"{why}; only little-endian files of versions 2 and 3 can be read. Convert it again with llama.cpp"
        )
    tensors, entries = cursor.number("Q", "the number of tensors"), cursor.number("Q", "the number of entries")
    if tensors > MOST_TENSORS or entries > MOST_ENTRIES:
        raise UnsafeFile(
            f"its header says {tensors} tensors and {entries} entries; at most {MOST_TENSORS} and {MOST_ENTRIES} can be"
        )
    metadata = _metadata(cursor, entries)
    alignment = metadata.get(ALIGNMENT, 32)
    if type(alignment) is not int or not 0 < alignment <= WIDEST or alignment & (alignment - 1):
        raise UnsafeFile(f"{ALIGNMENT} is {alignment!r}, expected a power of 2 up to {WIDEST}")
    raw = [_tensor(cursor) for _ in range(tensors)]
    start = -(-cursor.at // alignment) * alignment
    return GgufHeader(version, metadata, _placed(raw, start, alignment, cursor.size))


def _metadata(cursor: _Cursor, count: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    names = set[str]()
    for _ in range(count):
        name = cursor.text(LONGEST_NAME, "the name of an entry")
        if name in names:
            raise UnsafeFile(f"the entry {name!r} appears twice")
        names.add(name)
        value = _value(cursor, cursor.number("I", f"the type of {name!r}"), name)
        if value is not None:
            found[name] = value
    return found


def _value(cursor: _Cursor, kind: int, name: str) -> Any:
    """A value; None for an array or a string that is too long to say anything of the model."""
    if kind in SCALARS:
        value = cursor.number(SCALARS[kind], name)
        return shortest(value) if SCALARS[kind] == "f" else value
    if kind == STRING:
        return cursor.short_text(name)
    if kind != ARRAY:
        raise UnsafeFile(f"{name!r} is of the unknown type {kind}")
    inner, count = cursor.number("I", name), cursor.number("Q", name)
    if inner not in SCALARS and inner != STRING:
        raise UnsafeFile(f"{name!r} is an array of type {inner}, expected numbers or strings")
    if count <= KEPT:
        return [_value(cursor, inner, name) for _ in range(count)]
    _skip(cursor, inner, count, name)
    return None


def _skip(cursor: _Cursor, kind: int, count: int, name: str) -> None:
    if kind in SCALARS:
        cursor.skip(count * struct.calcsize(f"<{SCALARS[kind]}"), name)
        return
    cursor.words += count
    if cursor.words > MOST_WORDS:
        raise UnsafeFile(f"{name!r} should have {count} strings, at most {MOST_WORDS} are allowed in all")
    for _ in range(count):
        cursor.skip(cursor.number("Q", name), name)


def shortest(value: float) -> float:
    """The number with the fewest digits that is this float32: 1e-05 where 9.999999747378752e-06 is stored."""
    stored = struct.pack("<f", value)
    spelled = (float(f"{value:.{digits}g}") for digits in range(1, 9))
    return next((number for number in spelled if _as_float32(number) == stored), value)


def _as_float32(number: float) -> bytes | None:
    try:
        return struct.pack("<f", number)
    except OverflowError:
        return None


def _tensor(cursor: _Cursor) -> tuple[str, int, tuple[int, ...], int]:
    """(name, type number, shape slowest axis first, offset into the data)."""
    name = cursor.text(LONGEST_NAME, "the name of a tensor")
    dims = cursor.number("I", f"the axes of {name!r}")
    if dims > MOST_DIMS:
        raise UnsafeFile(f"{name!r} should have {dims} axes, at most {MOST_DIMS} are allowed")
    sizes = [cursor.number("Q", f"the sizes of {name!r}") for _ in range(dims)]
    kind, offset = cursor.number("I", f"the type of {name!r}"), cursor.number("Q", f"the place of {name!r}")
    if kind not in TYPES:
        raise UnsafeFile(f"{name!r} is of type {kind}, which is not known; known are {', '.join(_names())}")
    return name, kind, tuple(reversed(sizes)), offset


def _names() -> list[str]:
    return [name for name, _, _ in TYPES.values()]


def _placed(
    raw: Sequence[tuple[str, int, tuple[int, ...], int]], start: int, alignment: int, size: int
) -> tuple[GgufTensor, ...]:
    """Tensors by position; each must lie in the file, where its alignment says, and apart from the others."""
    found: dict[str, GgufTensor] = {}
    for name, number, shape, offset in raw:
        kind, block, width = TYPES[number]
        if name in found:
            raise UnsafeFile(f"the tensor {name!r} appears twice")
        if (shape[-1] if shape else 1) % block:
            raise UnsafeFile(f"{name!r} has rows of {shape[-1]} elements, {kind} takes multiples of {block}")
        nbytes = prod(shape) // block * width
        if offset % alignment:
            raise UnsafeFile(f"{name!r} lies at {offset}, which is no multiple of the alignment {alignment}")
        if start + offset + nbytes > size:
            raise UnsafeFile(f"{name!r} ends at byte {start + offset + nbytes}, the file has {size}: truncated")
        found[name] = GgufTensor(name, kind, shape, start + offset, nbytes)
    ordered = sorted(found.values(), key=lambda tensor: (tensor.begin, tensor.nbytes))
    for one, other in pairwise(ordered):
        if one.begin + one.nbytes > other.begin:
            raise UnsafeFile(f"{one.key!r} and {other.key!r} overlap")
    return tuple(ordered)
