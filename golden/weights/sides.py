"""A candidate's weights, and what the mapping gives for the reference in the same layout; both are read in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from converters.algebra.boxes import take
from converters.alignment import Alignment, align, identity, widened
from converters.checkpoint.casts import FLOATS, as_float
from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.opening import open_checkpoint
from converters.checkpoint.source_files import opened
from converters.config_alignment import families_of
from converters.conversion import checked_plan
from converters.engine.chunks import Maker, made
from converters.errors import ConversionError
from converters.plan.options import DEFAULTS
from converters.plan.plan import Plan
from converters.plan.rules import TargetTensor, casted
from golden.models.anatomy import known_anatomy
from golden.models.parts import Part

Numbers = np.ndarray[Any, np.dtype[Any]]
BLOCK = 1 << 22
"""Elements that are read at once of each side."""
ORDER = {"F16": 0, "BF16": 0, "F32": 1, "F64": 2}


@dataclass(frozen=True)
class Side:
    """Tensors as a plan makes them from a checkpoint."""

    source: Checkpoint
    tensors: Mapping[str, TargetTensor]

    def rows(self, key: str, start: int, stop: int) -> Numbers:
        """Rows start..stop of a tensor as numbers (rows, columns); a vector has one column, a number is one row."""
        tensor = self.tensors[key]
        if tensor.shape and (start, stop) != (0, tensor.shape[0]):
            pieces = (p for piece in tensor.pieces for p in take(piece, tensor.shape, 0, start, stop))
            tensor = replace(tensor, pieces=tuple(pieces), shape=(stop - start, *tensor.shape[1:]))
        with opened(self.source) as files:
            data = b"".join(bytes(part) for part in made(Maker(files), tensor))
        numbers: Numbers = as_float(data, tensor.dtype).reshape(stop - start, -1)
        return numbers

    def part(self, part: Part) -> Numbers:
        """All rows of a part."""
        rows = (self.tensors[part.key].shape or (1,))[0]
        if part.turned:
            whole: Numbers = self.rows(part.key, 0, rows).T
            return whole if part.size is None else whole[part.start : part.start + part.size]
        size = rows if part.size is None else part.size
        return self.rows(part.key, part.start, part.start + size)


@dataclass(frozen=True)
class Lack:
    """A tensor that cannot be compared: ``why`` is ``missing``, ``extra`` or a sentence about its shape or dtype."""

    key: str
    why: str


@dataclass(frozen=True)
class Sides:
    """Both sides of a failed candidate, and where the parts of a model lie in them.

    ``parts`` are roles of `golden.models.anatomy` that can be compared; a tensor that it does not know is a part under
    its key. ``all_parts`` are those of missing tensors, too. ``narrowed`` are keys that are stored in a narrower dtype
    than the mapping gives, and are compared after that rounding; ``truth`` is what the mapping gives before it.
    ``config`` is what config.json should say. ``n_layer`` and the sizes of heads are those of the reference,
    ``held_layers`` is the candidate's number of layers.
    """

    found: Side
    expected: Side
    truth: Side
    parts: Mapping[str, Part]
    all_parts: Mapping[str, Part]
    lacks: tuple[Lack, ...]
    narrowed: Mapping[str, str]
    config: Mapping[str, Any]
    head_dim: int
    n_head: int
    n_head_kv: int
    n_layer: int
    held_layers: int

    def shape(self, role: str) -> tuple[int, int]:
        """(rows, columns) of a part; a vector has one column."""
        part, shape = self.parts[role], self.found.tensors[self.parts[role].key].shape or (1,)
        rows, columns = shape[0], prod(shape[1:])
        if part.turned:
            rows, columns = columns, rows
        return (rows if part.size is None else part.size), columns

    def blocks(self, role: str) -> Iterator[tuple[int, Numbers, Numbers]]:
        """(first row, found, expected) of a part, block by block."""
        part, (rows, columns) = self.parts[role], self.shape(role)
        if part.turned:
            yield 0, self.found.part(part), self.expected.part(part)
            return
        step = max(1, BLOCK // max(1, columns))
        for start in range(0, rows, step):
            first, last = part.start + start, part.start + min(rows, start + step)
            yield start, self.found.rows(part.key, first, last), self.expected.rows(part.key, first, last)

    def dtype(self, role: str) -> str:
        """The stored dtype of a part, as safetensors spells it."""
        return self.found.tensors[self.parts[role].key].dtype

    @cached_property
    def layers(self) -> Mapping[int, tuple[str, ...]]:
        """Layer -> names of its parts without its number."""
        found: dict[int, list[str]] = {}
        for role in self.parts:
            layer, name = split_role(role)
            if layer is not None:
                found.setdefault(layer, []).append(name)
        return {layer: tuple(names) for layer, names in found.items()}


def split_role(role: str) -> tuple[int | None, str]:
    """Layer and name of a role: ``3.q`` is (3, q), ``embed`` is (None, embed)."""
    layer, dot, name = role.partition(".")
    return (int(layer), name) if dot and layer.isdigit() else (None, role)


def read_sides(candidate: Path, reference: Path) -> Sides | None:
    """Both sides by the mapping between their families; None where there is no mapping, or one side cannot be read."""
    try:
        plan, held = _in_candidates_layout(align(candidate, reference)) or _planned(candidate, reference)
        return _sides(plan, held)
    except (ConversionError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None  # the levels have said what is wrong with it


def _planned(candidate: Path, reference: Path) -> tuple[Plan, Checkpoint]:
    """The same where the candidate itself is no sound checkpoint."""
    one, other = open_checkpoint(candidate), open_checkpoint(reference)
    mine, theirs = families_of(one.config, other.config)
    return checked_plan(other, theirs, mine, DEFAULTS), one


def _in_candidates_layout(found: Alignment) -> tuple[Plan, Checkpoint] | None:
    """The plan that makes the reference in the layout of the candidate, and the candidate; None where there is none."""
    if found.plan is None or found.held is None:
        return None
    if not found.swapped:
        return found.plan, found.held
    back = checked_plan(found.held, found.plan.to, found.plan.family, DEFAULTS)
    return back, found.plan.source


def _sides(plan: Plan, held: Checkpoint) -> Sides:
    lacks, expected, narrowed = list[Lack](), dict[str, TargetTensor](), dict[str, str]()
    for tensor in plan.tensors:
        stored = held.tensors.get(tensor.key)
        if stored is None:
            lacks.append(Lack(tensor.key, "missing"))
        elif stored.shape != tensor.shape or not {stored.dtype, tensor.dtype} <= FLOATS:
            was, wanted = (f"{t.dtype} {list(t.shape)}" for t in (stored, tensor))
            lacks.append(Lack(tensor.key, f"is {was}, expected {wanted}"))
        else:
            expected[tensor.key] = _in_dtype(tensor, stored.dtype)
            if stored.dtype != tensor.dtype and ORDER[stored.dtype] <= ORDER[tensor.dtype]:
                narrowed[tensor.key] = stored.dtype
    made_of = {tensor.key: tensor for tensor in plan.tensors}
    lacks += [Lack(key, "extra") for key in sorted(held.tensors.keys() - made_of.keys())]
    as_stored = {tensor.key: tensor for tensor in identity(held).tensors if tensor.key in expected}
    anatomy = known_anatomy(plan.config, made_of)
    parts = {role: part for role, part in anatomy.parts.items() if part.key in expected} if anatomy else {}
    parts |= {key: Part(key) for key in expected.keys() - {part.key for part in parts.values()}}
    own = known_anatomy(held.config, as_stored)
    sizes: tuple[int, int, int, int]
    sizes = (anatomy.head_dim, anatomy.n_head, anatomy.n_head_kv, anatomy.n_layer) if anatomy else (0, 0, 0, 0)
    wide = {
        key: widened(tensor, held.tensors[key].dtype) if key in expected and key not in narrowed else tensor
        for key, tensor in made_of.items()
    }
    every = {**(anatomy.parts if anatomy else {}), **parts}
    return Sides(
        Side(held, as_stored),
        Side(plan.source, expected),
        Side(plan.source, wide),
        parts,
        every,
        tuple(lacks),
        narrowed,
        plan.config,
        *sizes,
        own.n_layer if own else 0,
    )


def _in_dtype(tensor: TargetTensor, dtype: str) -> TargetTensor:
    """The tensor in the dtype of the candidate, rounded where that is narrower."""
    if dtype == tensor.dtype:
        return tensor
    return widened(tensor, dtype) if ORDER[dtype] > ORDER[tensor.dtype] else casted([tensor], dtype)[0]
