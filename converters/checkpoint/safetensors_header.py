"""Headers of safetensors files, read and written with the standard library.

Format (safetensors 0.8): 8 bytes little-endian header length, a JSON object, then the data. Every tensor entry is
`{"dtype", "shape", "data_offsets": [begin, end]}`. Reading repeats all checks of the safetensors library and adds one
that it lacks: duplicate keys are refused.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from converters.errors import NotProved, UnsafeFile

BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library
MOST_TENSORS = 1_000_000
MOST_DIMS = 8


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
        with path.open("rb") as file:
            return _parse(file, path.stat().st_size)
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
    content = parse_json(file.read(length))
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UnsafeFile("__metadata__ is not an object of strings")
    if len(content) > MOST_TENSORS:
        raise UnsafeFile(f"it lists {len(content)} tensors, at most {MOST_TENSORS} are allowed")
    entries = sorted((_entry(key, value, 8 + length) for key, value in content.items()), key=lambda e: (e.begin, e.end))
    _check_tiling(entries, 8 + length, size)
    return Header(tuple(entries), metadata, 8 + length)


def parse_json(text: bytes) -> dict[str, Any]:
    """A JSON object without duplicate keys.

    Raises:
        UnsafeFile: not UTF-8, not JSON, nested too deeply, not an object, or a key appears twice.
    """
    try:
        found = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
        if b"\\ud" in text or b"\\uD" in text:  # escapes can give halves of characters, which UTF-8 cannot hold
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UnsafeFile(f"its JSON cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise UnsafeFile("its JSON is not an object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise UnsafeFile(f"the key {twice!r} appears twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise UnsafeFile(f"the number {text} is too large")
    return number


def _no_constant(name: str) -> None:
    raise UnsafeFile(f"{name} is not JSON")


def _entry(key: str, value: Any, data_start: int) -> TensorEntry:
    if not isinstance(value, dict):
        raise UnsafeFile(f"the entry of {key!r} is not an object")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise UnsafeFile(f"{key!r} has dtype {dtype!r}, known are {', '.join(BITS)}")
    if not _sizes(shape) or len(shape) > MOST_DIMS:
        raise UnsafeFile(f"{key!r} has shape {shape!r}, expected at most {MOST_DIMS} non-negative integers")
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise UnsafeFile(f"{key!r} has data_offsets {offsets!r}, expected [begin, end]")
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
    content: dict[str, Any] = {"__metadata__": {"format": "pt"}}
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
