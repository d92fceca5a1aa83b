"""The plan: every target tensor as pieces of source tensors, made from headers alone and proved before it runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from converters import layout
from converters.algebra import Check, View
from converters.boxes import Piece
from converters.checkpoint import Checkpoint, StoredTensor, open_checkpoint
from converters.dims import Dims, describe
from converters.errors import ConversionError, CoverageRefused, NotProved, ShapeMismatch, UsageError, nearest
from converters.family import OURS, Family, Rule, family_of, get_family
from converters.proof import Box, fault, source_box, target_box
from converters.safetensors_header import BITS


@dataclass(frozen=True)
class TargetTensor:
    """A tensor to be written: its pieces in the order of their elements, and the keys they come from."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    sources: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return prod(self.shape) * BITS[self.dtype] // 8


@dataclass(frozen=True)
class Plan:
    """What a conversion will do. `tensors` in the order in which they are written, `checks` done before writing."""

    source: Checkpoint
    family: str
    to: str
    config: Mapping[str, Any]
    tensors: tuple[TargetTensor, ...]
    checks: tuple[Check, ...]
    waived: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all target tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)


def make_plan(
    source: str | Path | Checkpoint, family: str | None = None, to: str = OURS, waive: Collection[str] = ()
) -> Plan:
    """Plans a conversion from headers and config.json alone, and proves it.

    Args:
        source: a model folder, or one that is open already.
        family: what the checkpoint is; left out, it is found by `model_type`.
        to: the family to convert to; one of the two sides is `mixformer`.
        waive: fields of config.json that may be ignored although no rule knows them.

    Raises:
        UsageError: no such source or family, or a pair that is not converted.
        Refused: see `converters.errors`: config, keys, shapes or files are not fit.
    """
    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(Path(source))
    found = family_of(checkpoint.config)
    if family not in (None, found):
        raise UsageError(f"{checkpoint.folder} is a {found} checkpoint by its model_type, not {family}")
    if OURS not in (found, to) or found == to:
        raise UsageError(f"{found} to {to} is not converted; one of the two sides is {OURS}")
    other = get_family(to if found == OURS else found)
    plan = _forward(checkpoint, other, waive) if to == OURS else _backward(checkpoint, other, waive)
    prove(plan)
    return plan


def _forward(source: Checkpoint, family: Family, waive: Collection[str]) -> Plan:
    config = family.config.to_ours(source.config, family.name, waive)
    resolved = layout.resolve(config)
    rules = bound_rules(family, resolved)
    dims, expected = family.dims(resolved), layout.tensors(resolved)
    _check_source(source, theirs_shapes(rules, dims, expected))
    tensors, checks = _apply(source, [(r.theirs, r.move, r.ours) for r in rules], dims, expected)
    return Plan(source, family.name, OURS, config, _in_order(source, tensors), checks, tuple(waive))


def _backward(source: Checkpoint, family: Family, waive: Collection[str]) -> Plan:
    config = family.config.to_theirs(source.config, family.name, waive)
    resolved = layout.resolve(source.config)
    rules = bound_rules(family, resolved)
    dims, ours = family.dims(resolved), layout.tensors(resolved)
    _check_source(source, ours)
    expected = theirs_shapes(rules, dims, ours)
    tensors, checks = _apply(source, [(r.ours, r.move.inverse, r.theirs) for r in rules], dims, expected)
    return Plan(source, OURS, family.name, config, _in_order(source, tensors), checks, tuple(waive))


def bound_rules(family: Family, resolved: Mapping[str, Any]) -> list[Rule]:
    """Every rule of a family for every layer of a model."""
    n_layer = family.dims(resolved)["n_layer"]
    return [bound for rule in family.rules(resolved) for bound in rule.bound(n_layer)]


def theirs_shapes(rules: Sequence[Rule], dims: Dims, ours: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes of theirs, got by moving the shapes of ours back; sizes keep their names."""
    found: dict[str, tuple[int, ...]] = {}
    for rule in rules:
        views = [View(tuple(ours[key]), "U8", ()) for key in rule.ours]
        found.update(zip(rule.theirs, (view.shape for view in rule.move.inverse(views, dims).views), strict=True))
    return found


def _check_source(source: Checkpoint, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Every key has its rule, every rule its key, every shape its sizes."""
    unmapped = sorted(set(source.tensors) - set(expected))
    missing = sorted(set(expected) - set(source.tensors))
    if unmapped or missing:
        raise CoverageRefused(". ".join(filter(None, (_unmapped(unmapped, expected), _missing(missing, source)))))
    for key, shape in expected.items():
        found = source.tensors[key].shape
        if found != shape:
            raise ShapeMismatch(f"{key} is {describe(found)}, expected {describe(shape)} by config.json")


def _unmapped(keys: Sequence[str], expected: Mapping[str, object]) -> str:
    if not keys:
        return ""
    hint = nearest(keys[0], expected)
    return f"{len(keys)} tensors have no rule, first: {keys[0]}{hint}"


def _missing(keys: Sequence[str], source: Checkpoint) -> str:
    if not keys:
        return ""
    hint = nearest(keys[0], source.tensors)
    return f"{len(keys)} tensors are missing, first: {keys[0]}{hint}"


def _apply(
    source: Checkpoint,
    moves: Sequence[tuple[tuple[str, ...], Any, tuple[str, ...]]],
    dims: Dims,
    expected: Mapping[str, tuple[int, ...]],
) -> tuple[list[TargetTensor], tuple[Check, ...]]:
    tensors, checks = list[TargetTensor](), list[Check]()
    for from_keys, move, to_keys in moves:
        views = [_stored(source.tensors[key]) for key in from_keys]
        try:
            moved = move(views, dims)
        except ConversionError as error:
            error.add_note(f"while making {', '.join(to_keys)} from {', '.join(from_keys)}")
            raise
        checks += moved.checks
        tensors += (_target(key, view, from_keys) for key, view in zip(to_keys, moved.views, strict=True))
    for tensor in tensors:
        if tensor.shape != expected[tensor.key]:
            raise ShapeMismatch(f"{tensor.key} would be {describe(tensor.shape)}, not {describe(expected[tensor.key])}")
    made = {tensor.key for tensor in tensors}
    if made != set(expected):
        raise NotProved(f"no rule makes {', '.join(sorted(set(expected) ^ made)[:3])}")
    return tensors, tuple(checks)


def _stored(tensor: StoredTensor) -> View:
    return View.of(tensor.key, tensor.shape, tensor.dtype)


def _target(key: str, view: View, from_keys: tuple[str, ...]) -> TargetTensor:
    pieces = tuple(sorted(view.pieces, key=lambda piece: piece.target_offset))
    return TargetTensor(key, view.dtype, view.shape, pieces, from_keys)


def _in_order(source: Checkpoint, tensors: Sequence[TargetTensor]) -> tuple[TargetTensor, ...]:
    """Tensors in the order of their first source bytes, so that reading and writing go forward together."""
    return tuple(sorted(tensors, key=lambda tensor: (*home(source, tensor), tensor.key)))


def home(source: Checkpoint, tensor: TargetTensor) -> tuple[int, int]:
    """(shard, byte) of the first source element of a target tensor; one made of fills alone is at home at the end."""
    for piece in tensor.pieces:
        if piece.source is not None:
            stored = source.tensors[piece.source]
            return stored.shard, stored.begin + piece.source_offset * stored.width
    return len(source.files) - 1, 2**63


def prove(plan: Plan) -> None:
    """Proves on boxes that every source element is used exactly once and every target element made exactly once.

    Raises:
        NotProved: with the tensor and what is wrong with its cover.
    """
    used: dict[str, list[Box]] = {key: [] for key in plan.source.tensors}
    for tensor in plan.tensors:
        why = fault(tensor.shape, [target_box(piece, f"from {piece.source}") for piece in tensor.pieces])
        if why:
            raise NotProved(f"{tensor.key} is not made exactly once: {why}")
        for piece in tensor.pieces:
            if piece.source is not None and not piece.copy:
                used[piece.source].append(source_box(piece, f"in {tensor.key}"))
    for check in plan.checks:
        for piece in check.view.pieces:
            if piece.source is not None:
                used[piece.source].append(source_box(piece, "that is checked"))
    for key, boxes in used.items():
        why = fault(plan.source.tensors[key].shape, boxes)
        if why:
            raise NotProved(f"{key} is not used exactly once: {why}")
