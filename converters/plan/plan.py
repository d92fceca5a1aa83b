"""The plan: every target tensor as pieces of source tensors, made from headers only and proved before it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converters.algebra.proof import Box, fault, source_box, target_box
from converters.algebra.views import Check
from converters.checkpoint.casts import header_dtype
from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.opening import open_checkpoint
from converters.checkpoint.users_word import N_HEAD, check_said, with_n_head, with_values
from converters.errors import NotProved, Refused, UsageError
from converters.family import OURS, dialect_of, get_family
from converters.family_of import family_of, target_family
from converters.plan.baking import STEP, with_bake
from converters.plan.options import DEFAULTS, Options
from converters.plan.rules import TargetTensor, casted, in_order
from converters.plan.translation import as_it_is, to_ours, to_theirs
from converters.plan.vocabulary import cropped


@dataclass(frozen=True)
class Plan:
    """What a conversion will do. `tensors` in the order in which they are written, `checks` done before writing.

    notes: sentences for the user. dropped: stored buffers that are left out on request; left_out: tensors that are.
    cropped_from: rows of the vocabulary before rows were cut off, 0 if none were.
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
    left_out: tuple[str, ...] = ()
    cropped_from: int = 0

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
        family: the family of the source; None: it is found by `model_type`.
        to: the family to convert to. Between two other families the plan goes by way of a MixFormer, not written.
        options: further requests.

    Raises:
        UsageError: no such source or family, or a pair that is not converted.
        Refused: see `converters.errors`: config, keys, shapes or files are not fit.
    """
    checkpoint = (
        source if isinstance(source, Checkpoint) else open_checkpoint(Path(source), dequantize=options.dequantize)
    )
    checkpoint = _with_word(with_bake(checkpoint) if options.bake else checkpoint, options)
    if options.bake and not any(step.get("step") == STEP for step in checkpoint.lossy):
        raise UsageError(f"--bake: {checkpoint.folder} holds no parametrised matrices, so there is nothing to bake")
    found, to = family_of(checkpoint.config, family), target_family(to, checkpoint.config)
    if family not in (None, found) and family != dialect_of(found):
        by = "its form" if checkpoint.said_by else "its model_type"
        raise UsageError(f"{checkpoint.folder} is a {found} checkpoint by {by}, not {family}; run `convert {found}`")
    if found == to:
        raise UsageError(f"{checkpoint.folder} is a {to} checkpoint already")
    if options.pad_vocab is not None and (options.pad_vocab < 1 or to != OURS):
        raise UsageError(f"--pad-vocab is {options.pad_vocab}; expected at least 1, and a conversion to {OURS}")
    if options.pad_low and options.pad_vocab is None:
        raise UsageError("--pad-low says what padded rows hold; it goes with --pad-vocab")
    if options.qkv_shards is not None and found != "codegen":
        raise UsageError(
            f"--qkv-shards {options.qkv_shards}: {checkpoint.folder} is a {found}; only a codegen has such"
        )
    if options.crop_vocab is not None and options.pad_vocab is not None:
        raise UsageError("--crop-vocab and --pad-vocab cannot go together")
    try:
        plan = _planned(checkpoint, found, to, options)
    except Refused as error:
        if checkpoint.said_by:
            error.add_note(f"no config.json is read of this source: the fields are those of {checkpoint.said_by}")
        raise
    prove(plan)
    return plan


def _with_word(checkpoint: Checkpoint, options: Options) -> Checkpoint:
    """The checkpoint with the number of heads that a user says, where it says none itself.

    Raises:
        UsageError: the checkpoint says its number of heads, and it is not that.
        ConfigRefused: nobody says it.
    """
    checkpoint = with_values(with_n_head(checkpoint, options.n_head), options.value_residual)
    said = checkpoint.config.get(N_HEAD)
    if options.n_head is not None and said != options.n_head:
        own = f"{N_HEAD} {said}" if said is not None else "its number of heads itself"
        raise UsageError(f"--n-head {options.n_head}: {checkpoint.folder} says {own}")
    check_said(checkpoint)
    return checkpoint


def _planned(checkpoint: Checkpoint, family: str, to: str, options: Options) -> Plan:
    target = None if to == OURS else get_family(to)
    model = as_it_is(checkpoint) if family == OURS else to_ours(checkpoint, get_family(family), options)
    if options.crop_vocab is not None:
        model = cropped(model, options.crop_vocab, (target or get_family(family)).tensors)
    later = options if family == OURS else replace(options, drop=())
    try:
        model = to_theirs(model, target, later) if target else model
    except Refused as error:
        if family != OURS:
            error.add_note(
                f"the fields are those of the MixFormer that this {family} is converted to on the way to {to}"
            )
        raise
    tensors, config = list(model.tensors.values()), model.config
    if options.dtype:
        tensors, config = casted(tensors, header_dtype(options.dtype)), {**config, "dtype": options.dtype}
    ordered = in_order(model.source, tensors)
    found = Plan(model.source, family, to, config, ordered, model.checks, options, model.notes, model.dropped)
    return replace(found, left_out=model.left_out, cropped_from=model.cropped_from)


def prove(plan: Plan) -> None:
    """Proves on boxes that every source element is read exactly once and every target element written exactly once.

    Raises:
        NotProved: with the tensor, and which elements are missing or double.
    """
    used: dict[str, list[Box]] = {key: [] for key in plan.source.tensors}
    for tensor in plan.tensors:
        why = fault(tensor.shape, [target_box(piece, f"from {piece.source}") for piece in tensor.pieces])
        if why:
            raise NotProved(f"the plan does not write each element of {tensor.key} exactly once: {why}")
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
            raise NotProved(f"the plan does not read each element of {key} exactly once: {why}")
