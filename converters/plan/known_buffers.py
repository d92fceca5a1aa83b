"""Known buffers: tensors of old checkpoints that a formula gives. They are checked, kept in the residue, written again.

Old files hold a rotary table (`inv_freq`) or a causal mask for every layer. It must be what its formula gives, up to
the rounding of its dtype and of the library that computed it. These roundings are kept in the residue, so that the way
back writes the same bytes.
"""

import math
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from converters.algebra.boxes import Piece, whole
from converters.algebra.views import Check, View
from converters.checkpoint.checkpoint import Checkpoint, StoredTensor
from converters.checkpoint.safetensors_header import BITS
from converters.checkpoint.tensor_bytes import row_major_bytes
from converters.errors import ConfigRefused, NotInvertible
from converters.family import BufferRule
from converters.paging import need

TOLERANCE = {"F32": 1e-5, "F16": 2e-3, "BF16": 1e-2, "F64": 1e-12}
UNPACK = {"F32": "f", "F16": "e", "F64": "d"}
LARGEST = 1 << 16  # bytes; a table of a rotary embedding has a few hundred


@dataclass(frozen=True)
class Table:
    """A row of numbers that `formula` gives from our resolved config; `scalar`: just one, without an axis."""

    suffix: str
    formula: Callable[[Mapping[str, Any]], Sequence[float]]
    scalar: bool = False
    name: str = "hex"

    def content(self, tensor: StoredTensor, resolved: Mapping[str, Any]) -> str:
        """Its bytes, in hexadecimal."""
        if tensor.nbytes > LARGEST or tensor.dtype not in TOLERANCE:
            raise Misfit(
                f"{tensor.key} is {tensor.dtype} {list(tensor.shape)}, which its formula cannot give; {ADVICE}"
            )
        data, expected = stored_bytes(tensor), self.formula(resolved)
        numbers = _numbers(tensor.dtype, data)
        if len(numbers) != len(expected) or len(tensor.shape) != (0 if self.scalar else 1):
            shape = [] if self.scalar else [len(expected)]
            raise Misfit(f"{tensor.key} has shape {list(tensor.shape)}, its formula gives {shape}; {ADVICE}")
        for k, (number, formula) in enumerate(zip(numbers, expected, strict=True)):
            if not _near(number, formula, tensor.dtype):
                why = f"{tensor.key}[{k}] is {number:.9g}, its formula gives {formula:.9g}; {ADVICE}"
                raise Misfit(why, abs(number - formula))
        return data.hex()

    def holds(self, dtype: str, content: Any, resolved: Mapping[str, Any]) -> bool:
        """Whether the bytes are what the formula gives, up to the rounding of their dtype."""
        data = bytes.fromhex(content)
        if len(data) > LARGEST or len(data) % (BITS[dtype] // 8):
            raise ValueError(content)
        numbers, expected = _numbers(dtype, data), self.formula(resolved)
        near = (_near(number, formula, dtype) for number, formula in zip(numbers, expected, strict=False))
        return len(numbers) == len(expected) and all(near)

    def view(self, dtype: str, content: Any) -> View:
        """One fill for each element."""
        data, width = bytes.fromhex(content), BITS[dtype] // 8
        count = len(data) // width
        values = (int.from_bytes(data[k * width : (k + 1) * width], "little") for k in range(count))
        pieces = tuple(Piece(None, (1,), 0, (0,), k, (1,), value) for k, value in enumerate(values))
        return View(() if self.scalar else (count,), dtype, pieces)


ADVICE = "the model may have been trained with it. Pass --drop-buffers to convert without it"


class Misfit(NotInvertible):
    """A buffer that is not what a formula gives; `far`: by how much, where that is a number."""

    def __init__(self, message: str, far: float = math.inf) -> None:
        super().__init__(message)
        self.far = far


def _near(number: float, formula: float, dtype: str) -> bool:
    if math.isinf(formula):
        return number == formula
    return abs(number - formula) <= TOLERANCE[dtype] * abs(formula)


def _numbers(dtype: str, data: bytes) -> Sequence[float]:
    if dtype == "BF16":
        data, dtype = b"".join(b"\0\0" + data[k : k + 2] for k in range(0, len(data), 2)), "F32"
    return struct.unpack(f"<{len(data) // struct.calcsize(UNPACK[dtype])}{UNPACK[dtype]}", data)


def stored_bytes(tensor: StoredTensor) -> bytes:
    """The row-major bytes of a stored tensor."""
    with tensor.file.open("rb") as file:

        def read(begin: int, length: int) -> bytes:
            need(tensor.file, begin, begin + length)
            file.seek(begin)
            return file.read(length)

        return row_major_bytes(tensor, read)


Found = tuple[BufferRule, str, Any]  # a rule, a dtype, a content


@dataclass(frozen=True)
class Buffers:
    """Buffers of a checkpoint by key: the rule that fits each, its dtype and its content."""

    found: Mapping[str, Found] = field(default_factory=dict)

    def keys(self) -> set[str]:
        """Their keys."""
        return set(self.found)

    def residue(self) -> dict[str, Any]:
        """What the residue keeps: each content once, with the keys that hold it."""
        groups: dict[tuple[str, str, Any], list[str]] = {}
        for key, (rule, dtype, content) in self.found.items():
            groups.setdefault((dtype, rule.name, content), []).append(key)
        listed = [{"dtype": d, name: content, "keys": keys} for (d, name, content), keys in groups.items()]
        return {"buffers": listed} if listed else {}

    def views(self) -> dict[str, View]:
        """Each buffer as a tensor of fills; buffers of one content share it."""
        made: dict[Any, View] = {}
        for rule, dtype, content in self.found.values():
            if (dtype, rule.name, content) not in made:
                made[dtype, rule.name, content] = rule.view(dtype, content)
        return {key: made[dtype, rule.name, content] for key, (rule, dtype, content) in self.found.items()}


def find_buffers(source: Checkpoint, rules: Sequence[BufferRule], resolved: Mapping[str, Any]) -> Buffers:
    """The buffers of a checkpoint, each compared with its formula; of several rules for a key one has to fit.

    Raises:
        NotInvertible: a buffer is not what its formula gives.
    """
    fitting = {key: [rule for rule in rules if key.endswith(rule.suffix)] for key in source.tensors}
    return Buffers({key: _fit(source.tensors[key], rules, resolved) for key, rules in fitting.items() if rules})


def _fit(tensor: StoredTensor, rules: Sequence[BufferRule], resolved: Mapping[str, Any]) -> Found:
    """The rule that a buffer fits; of a buffer that fits none, the error of the nearest is raised."""
    errors: list[NotInvertible] = []
    for rule in rules:
        try:
            return rule, tensor.dtype, rule.content(tensor, resolved)
        except NotInvertible as error:
            errors.append(error)
    raise min(errors, key=lambda error: error.far if isinstance(error, Misfit) and error.far >= 0 else math.inf)


def used(tensor: StoredTensor) -> Check:
    """The check that accounts for a buffer: its elements were compared and are used nowhere."""
    view = View(tensor.shape, tensor.dtype, (whole(tensor.key, tensor.shape),))
    return Check(view, "known by formula", equal=view)


def still_true(remembered: Buffers, resolved: Mapping[str, Any], keys: Collection[str]) -> Buffers:
    """The buffers that the model still has: of a layer that exists, and equal to what its formula gives today."""
    kept = {}
    for key, (rule, dtype, content) in remembered.found.items():
        owner = key.removesuffix(rule.suffix).rstrip(".")
        alive = (not owner or any(other.startswith(f"{owner}.") for other in keys)) and key not in keys
        if alive and rule.holds(dtype, content, resolved):
            kept[key] = (rule, dtype, content)
    return Buffers(kept)


def buffers_of(residue: Mapping[str, Any], rules: Sequence[BufferRule], resolved: Mapping[str, Any]) -> Buffers:
    """The buffers in the residue.

    Raises:
        ConfigRefused: the residue was changed by hand.
    """
    found: dict[str, Found] = {}
    try:
        for group in residue.get("buffers", []):
            for key in list(group["keys"]):
                fitting = [rule for rule in rules if key.endswith(rule.suffix) and rule.name in group]
                true = [rule for rule in fitting if rule.holds(group["dtype"], group[rule.name], resolved)]
                rule = (true or fitting)[0]
                found[key] = (rule, group["dtype"], group[rule.name])
    except (TypeError, KeyError, ValueError, AttributeError, IndexError, struct.error):
        raise ConfigRefused("converted_from.buffers in config.json was changed by hand; remove it") from None
    return Buffers(found)
