"""Faults of code: config and weights are right, but a block computes another formula. Planted into a loaded model.

Nothing in a checkpoint can bring them about, so they show that L2 reads the formula and not only the numbers in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from golden.models.modules import blocks

Changes = dict[str, bool]


@dataclass(frozen=True)
class CodeFault:
    """A fault. ``plant`` returns False where the model cannot have it."""

    name: str
    plant: Callable[[nn.Module], bool]


def code_faults() -> Iterator[CodeFault]:
    """Wrong ways in which branches of nGPT join the stream, and heads that keep their lengths."""
    yield CodeFault("rates with signs for without, or without for with", lambda model: _step_by(model, "signed"))
    yield CodeFault("the length of the stream kept for divided out, or the reverse", lambda m: _step_by(m, "stream"))
    yield CodeFault("branches join without their length divided out", lambda model: _step_by(model, "branch"))
    yield CodeFault("the sum keeps its length", lambda model: _step_by(model, "total"))
    yield CodeFault("heads of q and k keep their lengths", _heads_as_they_are)


def _unit(x: Tensor, wanted: bool = True) -> Tensor:
    found: Tensor = x / x.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    return found if wanted else x


def _step_by(model: nn.Module, wrong: str) -> bool:
    """Lets every block that has a step take another, of which one thing is the reverse of what the block does."""
    if wrong == "stream" and getattr(model.config, "embd_layer", "") == "unit":
        return False  # the stream begins with length 1 and keeps it, so that to divide it out changes nothing
    stepping: list[Any] = [block for block in blocks(model) if hasattr(block, "step") and hasattr(block, "residual")]
    for block in stepping:
        right = {"signed": block.signed_rates, "stream": block.normalize_stream, "branch": True, "total": True}
        block.step = partial(_step, block.residual == "lerp", right | {wrong: not right[wrong]})
    return bool(stepping)


def _step(lerp: bool, does: Changes, x: Tensor, y: Tensor, alpha: Any) -> Tensor:
    """The stream x after a branch y, in float64."""
    start, target, rate = _unit(x, does["stream"]), _unit(y, does["branch"]), alpha.effective(x.dtype)
    return _unit(start + (rate if does["signed"] else rate.abs()) * (target - start * lerp), does["total"])


def _heads_as_they_are(model: nn.Module) -> bool:
    normalising: list[Any] = [module for module in model.modules() if getattr(module, "qk_l2_norm", False)]
    for module in normalising:
        module.head_rule = replace(module.head_rule, l2_norm=False)
    return bool(normalising)
