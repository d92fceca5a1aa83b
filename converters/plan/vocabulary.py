"""Rows of the vocabulary: how many padding adds, what it says, and cutting rows off, which is a lossy step."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from converters.algebra.dims import Dims
from converters.algebra.moves import Crop
from converters.algebra.views import Check
from converters.config import layout
from converters.config.table import RESIDUE
from converters.errors import ConfigRefused, UsageError
from converters.plan.model import Model
from converters.plan.options import Options

Shapes = Callable[[Mapping[str, Any]], Mapping[str, tuple[int, ...]]]
HEAD_BIAS = "architecture.head.use_bias"


def padded(rows: int, multiple: int) -> int:
    """`rows`, up to the next multiple."""
    return -(-rows // multiple) * multiple


def padding(bare: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """What the residue keeps of padding that is asked for; empty where the rows are a multiple already.

    Raises:
        ConfigRefused: padded rows should have a low bias, and the head has no bias.
    """
    rows = bare["vocab_size"]
    if options.pad_low and not bare[HEAD_BIAS]:
        raise ConfigRefused("--pad-low: the head of this model has no bias, so padded rows have the logit 0")
    if not options.pad_vocab or rows % options.pad_vocab == 0:
        return {}
    low = {"low": True} if options.pad_low else {}
    return {"padding": {"vocab_size": rows, "padded": padded(rows, options.pad_vocab), **low}}


def is_padded_low(config: Mapping[str, Any]) -> bool:
    """Whether padded rows of the head's bias have the low value, as far as they are padded still."""
    residue = config.get(RESIDUE)
    found = residue.get("padding") if isinstance(residue, dict) else None
    return isinstance(found, dict) and found.get("low") is True and found.get("padded") == config.get("vocab_size")


def padding_notes(pads: Mapping[str, Any], resolved: Mapping[str, Any]) -> tuple[str, ...]:
    """What a person should know who generates with padded rows."""
    found = pads.get("padding")
    if not found or found.get("low"):
        return ()
    first, last = found["vocab_size"], found["padded"] - 1
    ids = f"the id {first} is" if first == last else f"the ids {first}..{last} are"
    told = f"{ids} padding with the logit 0, which wins where all other logits are negative; cut logits to {first}"
    return (f"{told}, or pass --pad-low" if resolved[HEAD_BIAS] else told,)


def cropped_config(config: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """A config of either side with this number of rows, and nothing said of padding."""
    found = {**config, "vocab_size": rows}
    if "pad_vocab_size_multiple" in config or "architecture" in config:
        found["pad_vocab_size_multiple"] = 1
    if isinstance(config.get(RESIDUE), dict):
        found[RESIDUE] = {name: value for name, value in config[RESIDUE].items() if name != "padding"}
    return found


def cropped(ours: Model, rows: int, shapes: Shapes = layout.tensors) -> Model:
    """A MixFormer with the first `rows` of its vocabulary.

    Raises:
        UsageError: it has fewer.
    """
    resolved = layout.resolve(ours.config)
    have = resolved["vocab_size"]
    if not 0 < rows <= have:
        raise UsageError(f"--crop-vocab is {rows}; expected at most {have}, which this model has")
    if rows == have:
        return ours
    config = cropped_config(ours.config, rows)
    before, after = shapes(resolved), shapes(layout.resolve(config))
    tensors, checks, dims = dict(ours.tensors), list(ours.checks), Dims({"rows": rows, "have": have})
    for key in (key for key in after if after[key] != before[key] and key in tensors):
        moved = Crop("rows", "have")([tensors[key].view], dims)
        pieces = tuple(sorted(moved.views[0].pieces, key=lambda piece: piece.target_offset))
        tensors[key] = replace(tensors[key], shape=moved.views[0].shape, pieces=pieces)
        checks += [Check(check.view, "cut off by --crop-vocab", equal=check.view) for check in moved.checks]
    return replace(ours, config=config, tensors=tensors, checks=tuple(checks), cropped_from=have)
