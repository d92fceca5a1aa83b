"""Applying rules: the tensors of one side become views of the other side's, and every key and shape is checked."""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from converters.algebra.boxes import Piece
from converters.algebra.dims import Dims, describe
from converters.algebra.views import Check, Move, View
from converters.checkpoint.casts import FLOATS, cast
from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.safetensors_header import BITS
from converters.errors import ConversionError, CoverageRefused, NotInvertible, NotProved, ShapeMismatch, nearest
from converters.family import Family, Rule


@dataclass(frozen=True)
class TargetTensor:
    """A tensor to be written: its pieces in the order of their elements, and the source keys.

    cast_from: the dtype of its elements before a cast, None if there is none.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    sources: tuple[str, ...]
    cast_from: str | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return prod(self.shape) * BITS[self.dtype] // 8

    @property
    def view(self) -> View:
        """The tensor for a move."""
        return View(self.shape, self.dtype, self.pieces)


def unmoved(source: Checkpoint) -> dict[str, TargetTensor]:
    """The tensors of a checkpoint as they are, by their family's names."""
    return {key: _target(key, View.of(key, t.shape, t.dtype), (t.name,)) for key, t in source.tensors.items()}


def bound_rules(family: Family, resolved: Mapping[str, Any]) -> list[Rule]:
    """Every rule of a family for every layer of a model."""
    n_layer = family.dims(resolved)["n_layer"]
    return [bound for rule in family.rules(resolved) for bound in rule.bound(n_layer)]


def theirs_shapes(rules: Sequence[Rule], dims: Dims, ours: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes of theirs, found by applying the inverse moves to the shapes of ours; sizes keep their names."""
    found: dict[str, tuple[int, ...]] = {}
    for rule in (rule for rule in rules if rule.theirs):
        views = [View(tuple(ours[key]), "U8", ()) for key in rule.ours]
        found.update(zip(rule.theirs, (view.shape for view in rule.move.inverse(views, dims).views), strict=True))
    return found


def check_keys(
    given: Mapping[str, TargetTensor],
    expected: Mapping[str, tuple[int, ...]],
    known: Collection[str] = (),
    head: str = "",
) -> None:
    """Checks that every key has a rule, every rule its keys, every shape its sizes, and all weights are floating-point.

    known: keys of buffers that a formula gives. head: the family's key of the output head.

    Raises:
        CoverageRefused, ShapeMismatch: with the first key that does not fit, and the most similar known key.
    """
    unmapped = sorted(set(given) - set(expected) - set(known))
    missing = sorted(set(expected) - set(given))
    if unmapped or missing:
        advice = "" if missing else _advice(unmapped, (*expected, head))
        said = (_unmapped(unmapped, expected), _missing(missing, given), _shared(unmapped, given, expected), advice)
        raise CoverageRefused(". ".join(filter(None, said)))
    for key, shape in expected.items():
        found = given[key].shape
        if found != shape:
            raise ShapeMismatch(f"{key} has shape {describe(found)}, expected {describe(shape)} by config.json")
        if not given[key].dtype.startswith(("F", "BF")):
            raise CoverageRefused(f"{key} is {given[key].dtype}, expected floating-point numbers")


def _unmapped(keys: Sequence[str], expected: Mapping[str, object]) -> str:
    if not keys:
        return ""
    hint = nearest(keys[0], expected)
    if len(keys) == 1:
        return f"no rule knows the tensor {keys[0]}{hint}"
    return f"no rule knows {len(keys)} tensors, the first is {keys[0]}{hint}"


def _missing(keys: Sequence[str], given: Mapping[str, object]) -> str:
    if not keys:
        return ""
    hint = nearest(keys[0], given)
    if len(keys) == 1:
        return f"the tensor {keys[0]} is missing{hint}"
    return f"{len(keys)} tensors are missing, the first is {keys[0]}{hint}"


def _shared(unknown: Sequence[str], given: Mapping[str, TargetTensor], expected: Iterable[str]) -> str:
    """What all stored keys begin with, where no key of the family does."""
    names = [tensor.sources[0] for tensor in given.values()]
    start = names[0].partition(".")[0] + "." if unknown else ""
    if not start or any(f".{key}".find(f".{start}") >= 0 for key in expected):
        return ""
    if not all(name.startswith(start) for name in names):
        return ""
    return f"All keys begin with {start!r}, which this family does not have: save the model without what wraps it"


def _advice(unknown: Sequence[str], own: Iterable[str]) -> str:
    """How to leave unknown tensors out where all of them are in modules that the model does not have."""
    modules, known = {key.split(".")[0] for key in unknown}, {key.split(".")[0] for key in own}
    if modules & known:
        return ""
    words = " ".join(f"--drop {shlex.quote(f'{module}.*')}" for module in sorted(modules))
    return f"If they are no part of the language model, leave them out: {words}"


def apply(
    given: Mapping[str, TargetTensor],
    moves: Sequence[tuple[tuple[str, ...], Move, tuple[str, ...]]],
    dims: Dims,
    expected: Mapping[str, tuple[int, ...]],
) -> tuple[dict[str, TargetTensor], tuple[Check, ...]]:
    """Applies moves to tensors, given as pieces of a source. The result must be exactly the expected tensors.

    Raises:
        ShapeMismatch, NotInvertible, NotProved: with the keys as notes.
    """
    tensors, checks = dict[str, TargetTensor](), list[Check]()
    for from_keys, move, to_keys in moves:
        try:
            moved = move([given[key].view for key in from_keys], dims)
        except ConversionError as error:
            error.add_note(f"while making {', '.join(to_keys)} from {', '.join(from_keys)}")
            raise
        checks += moved.checks
        sources = tuple(dict.fromkeys(name for key in from_keys for name in given[key].sources))
        tensors.update((key, _target(key, view, sources)) for key, view in zip(to_keys, moved.views, strict=True))
    for tensor in tensors.values():
        if tensor.shape != expected[tensor.key]:
            raise ShapeMismatch(
                f"{tensor.key} would have shape {describe(tensor.shape)}, expected {describe(expected[tensor.key])}"
            )
    if tensors.keys() != expected.keys():
        raise NotProved(f"no rule writes {', '.join(sorted(tensors.keys() ^ expected.keys())[:3])}")
    return tensors, tuple(checks)


def _target(key: str, view: View, from_keys: tuple[str, ...]) -> TargetTensor:
    pieces = tuple(sorted(view.pieces, key=lambda piece: piece.target_offset))
    return TargetTensor(key, view.dtype, view.shape, pieces, from_keys)


def in_order(source: Checkpoint, tensors: Sequence[TargetTensor]) -> tuple[TargetTensor, ...]:
    """Tensors in the order of their first source bytes, so that reading and writing go forward together."""
    return tuple(sorted(tensors, key=lambda tensor: (*home(source, tensor), tensor.key)))


def home(source: Checkpoint, tensor: TargetTensor) -> tuple[int, int]:
    """(shard, byte) of the first source element of a target tensor; for one made of fills only, after all others."""
    for piece in tensor.pieces:
        if piece.source is not None:
            stored = source.tensors[piece.source]
            return stored.shard, stored.begin + piece.source_offset * stored.width
    return len(source.files) - 1, 2**63


def casted(tensors: Sequence[TargetTensor], dtype: str) -> list[TargetTensor]:
    """The tensors, to be written as `dtype`.

    Raises:
        NotInvertible: a tensor is of a dtype that is not cast.
    """
    for tensor in tensors:
        if tensor.dtype not in FLOATS:
            raise NotInvertible(f"{tensor.key} is {tensor.dtype}; --dtype can cast {', '.join(sorted(FLOATS))}")
    return [t if t.dtype == dtype else _cast(t, dtype) for t in tensors]


def _cast(tensor: TargetTensor, dtype: str) -> TargetTensor:
    """The tensor as another dtype; what is filled in is cast here, what is read when it is read."""
    pieces = tuple(
        p if p.source is not None or p.value == 0 else replace(p, value=_cast_bits(p.value, tensor, dtype))
        for p in tensor.pieces
    )
    return replace(tensor, dtype=dtype, pieces=pieces, cast_from=tensor.dtype)


def _cast_bits(value: int, tensor: TargetTensor, dtype: str) -> int:
    data = value.to_bytes(BITS[tensor.dtype] // 8, "little")
    return int.from_bytes(cast(data, tensor.dtype, dtype, tensor.key).data, "little")
