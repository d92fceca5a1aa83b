"""Headers of safetensors files, read and written with the standard library.

Format (safetensors 0.8): 8 bytes little-endian header length, a JSON object, then the data. Every tensor entry is
`{"dtype", "shape", "data_offsets": [begin, end]}`. Reading repeats all checks of the safetensors library and adds one
that it lacks: duplicate keys are refused.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from converters.checkpoint.json_text import members
from converters.checkpoint.regular_files import open_regular
from converters.errors import NotProved, UnsafeFile, shown

BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library
MOST_TENSORS = 100_000  # of one file; the largest models published so far have 140,000 in dozens of files
MOST_DIMS = 8
LONGEST_NAME = 1 << 10  # characters
METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor of one file: `shape` in elements, `begin` and `end` in bytes from the start of the file."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def width(self) -> int:
        """Bytes of one element."""
        return BITS[self.dtype] // 8


@dataclass(frozen=True)
class Header:
    """What a file says about its tensors, in the order of their data; `data_start` in bytes."""

    tensors: tuple[TensorEntry, ...]
    metadata: Mapping[str, str]
    data_start: int


def read_header(path: Path) -> Header:
    """Reads and checks the header of a safetensors file.

    Raises:
        UnsafeFile: the file is truncated, malformed, or its tensors overlap, leave gaps or do not fill it.
    """
    try:
        with open_regular(path) as file:
            return _parse(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise UnsafeFile(f"{path} cannot be read: {error.strerror}") from None
    except UnsafeFile as error:
        raise UnsafeFile(f"{path} is not a valid safetensors file: {error}") from None


def _parse(file: BinaryIO, size: int) -> Header:
    if size < 8:
        raise UnsafeFile(f"it has {size} bytes, a header needs at least 8")
    length = int.from_bytes(file.read(8), "little")
    if length > LARGEST_HEADER:
        raise UnsafeFile(f"its header should have {length} bytes, the format allows {LARGEST_HEADER}")
    if 8 + length > size:
        raise UnsafeFile(
            f"its header should have {length} bytes, the file has {size}: it is truncated, or no safetensors file"
        )
    entries, metadata = _content(file, length)
    entries.sort(key=lambda e: (e.begin, e.end))
    _check_tiling(entries, 8 + length, size)
    return Header(tuple(entries), metadata, 8 + length)


def _content(file: BinaryIO, length: int) -> tuple[list[TensorEntry], dict[str, str]]:
    """The tensors of a header and its metadata, checked one by one, so that a broken header is not read to its end."""
    entries: dict[str, TensorEntry] = {}
    metadata: dict[str, str] | None = None
    for key, value in members(file, length):
        if len(key) > LONGEST_NAME:
            raise UnsafeFile(f"a name has {len(key)} characters, at most {LONGEST_NAME} are allowed: {key[:40]!r}...")
        if key in entries or (key == METADATA and metadata is not None):
            raise UnsafeFile(f"the key {key!r} appears twice")
        if key == METADATA:
            metadata = _strings(value)
        elif len(entries) == MOST_TENSORS:
            raise UnsafeFile(f"it lists more than {MOST_TENSORS} tensors, which are the most that are allowed")
        else:
            entries[key] = _entry(key, value, 8 + length)
    return list(entries.values()), metadata or {}


def _strings(value: Any) -> dict[str, str]:
    """Metadata; null, as some writers have it, is none."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise UnsafeFile(f"{METADATA} is not an object of strings")
    return value


def _entry(key: str, value: Any, data_start: int) -> TensorEntry:
    if not isinstance(value, dict):
        raise UnsafeFile(f"the entry of {key!r} is not an object")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise UnsafeFile(f"{key!r} has dtype {shown(dtype)}, known are {', '.join(BITS)}")
    if not _sizes(shape) or len(shape) > MOST_DIMS:
        raise UnsafeFile(f"{key!r} has shape {shown(shape)}, expected at most {MOST_DIMS} non-negative integers")
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise UnsafeFile(f"{key!r} has data_offsets {shown(offsets)}, expected [begin, end]")
    begin, end = offsets
    if prod(shape) * BITS[dtype] // 8 != end - begin:
        raise UnsafeFile(f"{key!r} holds {end - begin} bytes, {dtype} {shape} takes {prod(shape) * BITS[dtype] // 8}")
    return TensorEntry(key, dtype, tuple(shape), data_start + begin, data_start + end)


def _sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 2**63 for size in value)


def _check_tiling(entries: Sequence[TensorEntry], data_start: int, size: int) -> None:
    """Checks that tensors follow one another without gap or overlap and fill the file."""
    at, before = data_start, "the header"
    for entry in entries:
        if entry.begin != at:
            what = "overlaps" if entry.begin < at else "leaves a gap after"
            raise UnsafeFile(f"{entry.key!r} {what} {before!r} ({entry.begin - at:+d} bytes)")
        at, before = entry.end, entry.key
    if at != size:
        raise UnsafeFile(
            f"tensors end at byte {at}, the file has {size} bytes: it is truncated, or has data after them"
        )


def build_header(tensors: Iterable[tuple[str, str, tuple[int, ...]]], congruent: int = 0) -> bytes:
    """The header of a file that holds (key, dtype, shape) tensors in this order.

    Its length is padded with spaces so that the data begin at a multiple of 8 and, where that is possible, at
    `congruent` modulo 4096, so that a file system that can share ranges of files can share these.
    """
    content: dict[str, Any] = {METADATA: {"format": "pt"}}
    at = 0
    for key, dtype, shape in tensors:
        if key in content:
            raise NotProved(f"two tensors would be written as {key!r}")
        end = at + prod(shape) * BITS[dtype] // 8
        content[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    unit, residue = (4096, congruent % 4096) if congruent % 8 == 0 else (8, 0)
    padding = (residue - 8 - len(text)) % unit
    return (len(text) + padding).to_bytes(8, "little") + text + b" " * padding
