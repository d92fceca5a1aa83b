"""Faults of kernels: config and weights are right, but the code that runs in low precision is wrong.

In bfloat16 no logit shows them, but the probes of L3 must. They are planted into a loaded model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from golden.faults.mapping_faults import scale_scores
from golden.models.anatomy import read_anatomy
from golden.models.modules import activation, blocks, role_module
from golden.models.running import ModelRunner


@dataclass(frozen=True)
class KernelFault:
    """A fault, and the dtype whose probe has to show it. ``plant`` returns False where the model cannot have it."""

    name: str
    dtype: str
    plant: Callable[[ModelRunner], bool]


def kernel_faults() -> Iterator[KernelFault]:
    """Faults of norms, activations and attention."""
    for dtype in ("bfloat16", "float16"):
        yield KernelFault(f"norm kernel with a tenth of eps, {dtype}", dtype, lambda r: _scale_eps(r, 0.1))
        yield KernelFault(f"norm kernel with ten times eps, {dtype}", dtype, lambda r: _scale_eps(r, 10.0))
        yield KernelFault(f"other gelu kernel, {dtype}", dtype, _other_gelu)
    yield KernelFault("attention kernel without later keys, bfloat16", "bfloat16", _drop_later)
    yield KernelFault("attention kernel scaled 10 % off, bfloat16", "bfloat16", lambda r: _scale_scores(r, 1.1))
    yield KernelFault("attention kernel scaled 1 % off, float16", "float16", lambda r: _scale_scores(r, 1.01))


def _scale_eps(runner: ModelRunner, factor: float) -> bool:
    changed = False
    for block in blocks(runner.model):
        norm: Any = role_module(block, "norm_1")
        for name in ("eps", "variance_epsilon"):
            if hasattr(norm, name):
                setattr(norm, name, getattr(norm, name) * factor)
                changed = True
    return changed


class _Gelu(nn.Module):
    def __init__(self, approximate: str) -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(x, approximate=self.approximate)


def _other_gelu(runner: ModelRunner) -> bool:
    """The exact GELU in place of the tanh form, or the tanh form in place of the exact one. SiLU has no such twin."""
    layer = blocks(runner.model)[0]
    now = activation(layer)
    mlp: Any = role_module(layer, "mlp")
    points = torch.linspace(-4.0, -3.0, 9, dtype=torch.float64)
    for this, other in (("tanh", "none"), ("none", "tanh")):
        if now is not None and torch.allclose(now(points), torch.nn.functional.gelu(points, approximate=this), 1e-6):
            for parent in mlp.modules():
                for name, child in parent.named_children():
                    if child is now:
                        setattr(parent, name, _Gelu(other))
            return True
    return False


def _scale_scores(runner: ModelRunner, factor: float) -> bool:
    """Scores are multiplied by a factor; without a softmax nothing would show it, beside the scores of later keys."""
    weights = runner.model.state_dict()
    anatomy = read_anatomy(runner.model.config.to_dict(), weights)
    if "0.q_norm" in anatomy.parts or "0.q" not in anatomy.parts or _without_softmax(runner):
        return False
    scale_scores(anatomy, weights, 0, factor)
    return True


def _without_softmax(runner: ModelRunner) -> list[Any]:
    """The modules that attend without a softmax."""
    return [module for module in runner.model.modules() if hasattr(module, "masked_score")]


def _drop_later(runner: ModelRunner) -> bool:
    """Later keys weigh nothing where they have to weigh a lot."""
    found = _without_softmax(runner)
    for module in found:
        module.masked_score = 0.0
    return bool(found)
