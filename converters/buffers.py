"""Buffers that old checkpoints carry although a formula gives them: checked, remembered, and written again.

A rotary table (`inv_freq`) was once saved with every layer. It must be what its formula says, up to the rounding of its
dtype and of the library that computed it; its very bytes are kept in the residue, so that the way back restores them.
"""

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.algebra import Check, View
from converters.boxes import Piece, whole
from converters.checkpoint import Checkpoint, StoredTensor
from converters.errors import ConfigRefused, NotInvertible
from converters.tensor_bytes import row_major_bytes

TOLERANCE = {"F32": 1e-5, "F16": 2e-3, "BF16": 1e-2, "F64": 1e-12}
UNPACK = {"F32": "f", "F16": "e", "F64": "d"}
LARGEST = 1 << 16  # bytes; a table of a rotary embedding has a few hundred


@dataclass(frozen=True)
class BufferRule:
    """Keys ending in `suffix` hold the numbers that `formula` gives from our resolved config."""

    suffix: str
    formula: Callable[[Mapping[str, Any]], Sequence[float]]


@dataclass(frozen=True)
class Buffers:
    """Buffers of a checkpoint: stored key -> (dtype, bytes in hexadecimal)."""

    found: Mapping[str, tuple[str, str]]

    def residue(self) -> dict[str, Any]:
        """What has to be remembered: each content once, with the keys that hold it."""
        groups: dict[tuple[str, str], list[str]] = {}
        for key, content in self.found.items():
            groups.setdefault(content, []).append(key)
        return {"buffers": [{"dtype": d, "hex": h, "keys": keys} for (d, h), keys in groups.items()]} if groups else {}

    def views(self) -> dict[str, View]:
        """Each buffer as a tensor of fills."""
        return {key: _literal(dtype, bytes.fromhex(text)) for key, (dtype, text) in self.found.items()}


def find_buffers(source: Checkpoint, rules: Sequence[BufferRule], resolved: Mapping[str, Any]) -> Buffers:
    """The buffers of a checkpoint, each held against its formula.

    Raises:
        NotInvertible: a buffer is not what its formula says.
    """
    found = {}
    for key, tensor in source.tensors.items():
        rule = next((rule for rule in rules if key.endswith(rule.suffix)), None)
        if rule:
            data = _read(tensor)
            _check(tensor, data, rule.formula(resolved))
            found[key] = (tensor.dtype, data.hex())
    return Buffers(found)


def _read(tensor: StoredTensor) -> bytes:
    if tensor.nbytes > LARGEST or tensor.dtype not in TOLERANCE:
        raise NotInvertible(f"{tensor.key} is {tensor.dtype} {list(tensor.shape)}, which is no rotary table")
    with tensor.file.open("rb") as file:

        def read(begin: int, length: int) -> bytes:
            file.seek(begin)
            return file.read(length)

        return row_major_bytes(tensor, read)


def fits(dtype: str, data: bytes, expected: Sequence[float]) -> bool:
    """Whether bytes are what a formula gives, up to the rounding of their dtype."""
    numbers = _numbers(dtype, data)
    near = (abs(n - e) <= TOLERANCE[dtype] * abs(e) for n, e in zip(numbers, expected, strict=False))
    return len(numbers) == len(expected) and all(near)


def _check(tensor: StoredTensor, data: bytes, expected: Sequence[float]) -> None:
    numbers = _numbers(tensor.dtype, data)
    if len(numbers) != len(expected) or len(tensor.shape) != 1:
        raise NotInvertible(f"{tensor.key} has shape {list(tensor.shape)}, its formula gives [{len(expected)}]")
    for k, (number, formula) in enumerate(zip(numbers, expected, strict=True)):
        if not abs(number - formula) <= TOLERANCE[tensor.dtype] * abs(formula):
            raise NotInvertible(
                f"{tensor.key}[{k}] is {number:.9g}, its formula gives {formula:.9g}; the model may have been trained"
                f" with it. Pass --drop-buffers to convert without it"
            )


def _numbers(dtype: str, data: bytes) -> Sequence[float]:
    if dtype == "BF16":
        data, dtype = b"".join(b"\0\0" + data[k : k + 2] for k in range(0, len(data), 2)), "F32"
    return struct.unpack(f"<{len(data) // struct.calcsize(UNPACK[dtype])}{UNPACK[dtype]}", data)


def _width(dtype: str) -> int:
    return 2 if dtype == "BF16" else struct.calcsize(UNPACK[dtype])


def _literal(dtype: str, data: bytes) -> View:
    """A one-dimensional tensor of fills, one for each element."""
    width = _width(dtype)
    count = len(data) // width
    values = (int.from_bytes(data[k * width : (k + 1) * width], "little") for k in range(count))
    pieces = tuple(Piece(None, (1,), 0, (0,), k, (1,), value) for k, value in enumerate(values))
    return View((count,), dtype, pieces)


def used(tensor: StoredTensor) -> Check:
    """The accounting of a buffer: its elements were checked and are used nowhere."""
    view = View(tensor.shape, tensor.dtype, (whole(tensor.key, tensor.shape),))
    return Check(view, "known by formula", equal=view)


def still_true(
    remembered: Buffers, rules: Sequence[BufferRule], resolved: Mapping[str, Any], keys: Collection[str]
) -> Buffers:
    """Those buffers that the live model still has: of a layer that exists, and what its formula says today."""
    kept = {}
    for key, (dtype, text) in remembered.found.items():
        rule = next(rule for rule in rules if key.endswith(rule.suffix))
        owner = key.removesuffix(rule.suffix)
        alive = any(other.startswith(owner) for other in keys) and key not in keys
        if alive and fits(dtype, bytes.fromhex(text), rule.formula(resolved)):
            kept[key] = (dtype, text)
    return Buffers(kept)


def buffers_of(residue: Mapping[str, Any], rules: Sequence[BufferRule]) -> Buffers:
    """The buffers that a conversion remembered.

    Raises:
        ConfigRefused: they are nothing that a conversion writes.
    """
    try:
        groups = residue.get("buffers", [])
        found = {key: (group["dtype"], group["hex"]) for group in groups for key in list(group["keys"])}
        for key, (dtype, text) in found.items():
            size = len(bytes.fromhex(text))
            if size > LARGEST or size % _width(dtype) or not any(key.endswith(rule.suffix) for rule in rules):
                raise ValueError(key)
    except (TypeError, KeyError, ValueError, AttributeError):
        raise ConfigRefused("converted_from.buffers is nothing that a conversion writes; remove it") from None
    return Buffers(found)
