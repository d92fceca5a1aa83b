"""Faults of code: config and weights are right, but a block computes another formula. Planted into a loaded model.

Nothing in a checkpoint can bring them about, so they show that L2 reads the formula and not only the numbers in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from golden.models.modules import blocks

Step = Callable[[Tensor, Tensor, Tensor, bool], Tensor]
"""(stream, branch, rates, whether it interpolates) -> the new stream; float64, rates as they are learned."""


@dataclass(frozen=True)
class CodeFault:
    """A fault. ``plant`` returns False where the model cannot have it."""

    name: str
    plant: Callable[[nn.Module], bool]


def code_faults() -> Iterator[CodeFault]:
    """Wrong ways in which branches of nGPT join the stream, and heads that keep their lengths."""
    yield CodeFault("signed rates", lambda model: _step_by(model, _signed))
    yield CodeFault("the stream joins without its length divided out", lambda model: _step_by(model, _skip_as_it_is))
    yield CodeFault("branches join without their length divided out", lambda model: _step_by(model, _branch_as_it_is))
    yield CodeFault("the sum keeps its length", lambda model: _step_by(model, _sum_as_it_is))
    yield CodeFault("heads of q and k keep their lengths", _heads_as_they_are)


def _unit(x: Tensor) -> Tensor:
    found: Tensor = x / x.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    return found


def _signed(x: Tensor, y: Tensor, rate: Tensor, lerp: bool) -> Tensor:
    return _unit(_unit(x) + rate * (_unit(y) - _unit(x) * lerp))


def _skip_as_it_is(x: Tensor, y: Tensor, rate: Tensor, lerp: bool) -> Tensor:
    return _unit(x + rate.abs() * (_unit(y) - x * lerp))


def _branch_as_it_is(x: Tensor, y: Tensor, rate: Tensor, lerp: bool) -> Tensor:
    return _unit(_unit(x) + rate.abs() * (y - _unit(x) * lerp))


def _sum_as_it_is(x: Tensor, y: Tensor, rate: Tensor, lerp: bool) -> Tensor:
    return _unit(x) + rate.abs() * (_unit(y) - _unit(x) * lerp)


def _step_by(model: nn.Module, step: Step) -> bool:
    """Lets every block that has a step take this one."""
    stepping: list[Any] = [block for block in blocks(model) if hasattr(block, "step") and hasattr(block, "residual")]
    for block in stepping:
        lerp = block.residual == "lerp"
        block.step = lambda x, y, alpha, lerp=lerp: step(x, y, alpha.effective(x.dtype), lerp)
    return bool(stepping)


def _heads_as_they_are(model: nn.Module) -> bool:
    normalising: list[Any] = [module for module in model.modules() if getattr(module, "qk_l2_norm", False)]
    for module in normalising:
        module.qk_l2_norm = False
    return bool(normalising)
