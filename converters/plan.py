"""The plan: every target tensor as pieces of source tensors, made from headers alone and proved before it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converters import layout
from converters.algebra import Check
from converters.buffers import Buffers, buffers_of, find_buffers, still_true, used
from converters.casts import header_dtype
from converters.checkpoint import Checkpoint, open_checkpoint
from converters.config_table import RESIDUE, residue_of
from converters.errors import ConfigRefused, NotProved, UsageError
from converters.family import OURS, Family, family_of, get_family
from converters.heads import NOTES, find_head, head_of
from converters.moving import TargetTensor, apply, bound_rules, casted, check_source, in_order, theirs_shapes
from converters.naming import find_naming, naming_of, unwrapped
from converters.proof import Box, fault, source_box, target_box


@dataclass(frozen=True)
class Options:
    """What may be asked of a plan.

    waive: fields of config.json that may be ignored although no rule knows them. drop_buffers: stored buffers that a
    formula gives are left out, whatever they hold. pad_vocab: rows of the vocabulary in ours become a multiple of this.
    dtype: floating tensors are cast to this one.
    own_head: the head of a model that says it is tied was found to differ from the embedding.
    """

    waive: tuple[str, ...] = ()
    drop_buffers: bool = False
    pad_vocab: int | None = None
    own_head: bool = False
    dtype: str | None = None


DEFAULTS = Options()


@dataclass(frozen=True)
class Plan:
    """What a conversion will do. `tensors` in the order in which they are written, `checks` done before writing.

    notes: what a person should know, a sentence each. dropped: stored keys that are left out on request.
    """

    source: Checkpoint
    family: str
    to: str
    config: Mapping[str, Any]
    tensors: tuple[TargetTensor, ...]
    checks: tuple[Check, ...]
    options: Options = DEFAULTS
    notes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all target tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)


def make_plan(
    source: str | Path | Checkpoint, family: str | None = None, to: str = OURS, options: Options = DEFAULTS
) -> Plan:
    """Plans a conversion from headers and config.json alone, and proves it.

    Args:
        source: a model folder, or one that is open already.
        family: what the checkpoint is; left out, it is found by `model_type`.
        to: the family to convert to; one of the two sides is `mixformer`.
        options: what else was asked for.

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
    if options.pad_vocab is not None and (options.pad_vocab < 1 or to != OURS):
        raise UsageError(f"--pad-vocab {options.pad_vocab} is for conversions to {OURS}, and at least 1")
    other = get_family(to if found == OURS else found)
    plan = _forward(checkpoint, other, options) if to == OURS else _backward(checkpoint, other, options)
    prove(plan)
    return plan


def _forward(stored: Checkpoint, family: Family, options: Options) -> Plan:
    naming = find_naming(stored.tensors, family.base, (family.head,))
    source = unwrapped(stored, naming, (family.head,))
    head = find_head(source, family.head, own=options.own_head)
    theirs = head.effective(source.config)
    bare = layout.resolve(family.config.to_ours(theirs, family.name, options.waive))
    given = _buffer_keys(source, family)
    buffers = Buffers({}) if options.drop_buffers else find_buffers(source, family.buffers, bare)
    names = naming.residue()
    _check_depth(bare, source)
    extra = {**head.residue(), **buffers.residue(), **({"keys": names} if names else {}), **_padding(bare, options)}
    config = family.config.to_ours(theirs, family.name, options.waive, extra)
    if options.pad_vocab:
        config["vocab_size"] = padded(bare["vocab_size"], options.pad_vocab)
    resolved = layout.resolve(config)
    rules = bound_rules(family, resolved)
    dims, expected = family.dims(resolved), layout.tensors(resolved)
    check_source(source, theirs_shapes(rules, dims, expected), set(given))
    tensors, checks = apply(source, [(r.theirs, r.move, r.ours) for r in rules], dims, expected)
    checks += tuple(used(source.tensors[key]) for key in given)
    if options.dtype:
        tensors, config = casted(tensors, header_dtype(options.dtype)), {**config, "dtype": options.dtype}
    notes = (*source.notes, *filter(None, [NOTES.get(head.kind)]))
    dropped = tuple(given) if options.drop_buffers else ()
    return Plan(source, family.name, OURS, config, in_order(source, tensors), checks, options, notes, dropped)


def _readable(config: Mapping[str, Any], family: Family, waived: Sequence[str]) -> None:
    """A config that is written must be one that is read: a residue edited by hand may spoil it."""
    try:
        family.config.to_ours(config, family.name, [name for name in waived if name in config])
        if config.get("model_type") not in family.model_types:
            raise ConfigRefused(f"model_type would be {config.get('model_type')!r}")
    except ConfigRefused as error:
        raise ConfigRefused(f"{RESIDUE} does not give back a sound config ({error}); remove it or mend it") from None


def _check_depth(resolved: Mapping[str, Any], source: Checkpoint) -> None:
    """More layers than tensors are refused before anything is made for each layer."""
    if resolved["n_layer"] > len(source.tensors):
        raise ConfigRefused(f"config.json says {resolved['n_layer']} layers, there are {len(source.tensors)} tensors")


def _buffer_keys(source: Checkpoint, family: Family) -> list[str]:
    return [key for key in source.tensors if any(key.endswith(rule.suffix) for rule in family.buffers)]


def padded(rows: int, multiple: int) -> int:
    """`rows`, up to the next multiple."""
    return -(-rows // multiple) * multiple


def _padding(bare: Mapping[str, Any], options: Options) -> dict[str, Any]:
    rows = bare["vocab_size"]
    if not options.pad_vocab or rows % options.pad_vocab == 0:
        return {}
    return {"padding": {"vocab_size": rows, "padded": padded(rows, options.pad_vocab)}}


def _backward(source: Checkpoint, family: Family, options: Options) -> Plan:
    resolved = layout.resolve(source.config)
    residue = residue_of(source.config, family.name)
    live = {**source.config, "dtype": options.dtype} if options.dtype else source.config
    config = family.config.to_theirs(live, family.name, options.waive)
    config = head_of(source.config).restored(config) if residue else config
    _readable(config, family, (*options.waive, *residue.get("waived", ())))
    _check_depth(resolved, source)
    rules = bound_rules(family, resolved)
    dims, ours = family.dims(resolved), layout.tensors(resolved)
    check_source(source, ours, set())
    expected = theirs_shapes(rules, dims, ours)
    tensors, checks = apply(source, [(r.ours, r.move.inverse, r.theirs) for r in rules], dims, expected)
    tensors = casted(tensors, header_dtype(options.dtype)) if options.dtype else tensors
    naming = naming_of(residue, family.base)
    remembered = Buffers({}) if options.drop_buffers else buffers_of(residue, family.buffers)
    buffers = still_true(remembered, family.buffers, resolved, expected)
    tensors += [TargetTensor(key, v.dtype, v.shape, v.pieces, ()) for key, v in buffers.views().items()]
    named = in_order(source, [replace(tensor, key=naming.stored(tensor.key)) for tensor in tensors])
    stale = [
        f"{key} is left out: it is no longer what its formula says"
        for key in remembered.found.keys() - buffers.found.keys()
    ]
    return Plan(source, OURS, family.name, config, named, checks, options, (*source.notes, *sorted(stale)))


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
