"""RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467): weight * x / sqrt(mean(x^2) + eps)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixformer.precision import accumulation_dtype


class RMSLayerNorm(nn.LayerNorm):
    """RMSNorm. Parameter: `weight` (n,).

    Everything up to and including the weight is computed in the accumulation dtype and rounded once, as the SDK does;
    LLaMA in transformers rounds before the weight as well. The two agree exactly in float32 and float64.
    """

    def __init__(
        self,
        normalized_shape: int,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        super().__init__(normalized_shape, eps=eps, bias=False, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of x; same shape and dtype."""
        return rms_norm(x, self.weight, self.eps)


class FlashRMSLayerNorm(nn.LayerNorm):
    """RMSNorm with the keywords of flash-attn's Triton module. Parameter: `weight` (n,).

    Args:
        normalized_shape: Size of the last dimension.
        eps: Added to the mean square.
        dropout_p: Dropout on the input, while training.
        zero_centered_weight: The weight is a deviation from 1 and starts at 0.
        device, dtype: Of the weight.
    """

    def __init__(
        self,
        normalized_shape: int,
        eps: float = 1e-5,
        dropout_p: float = 0.0,
        zero_centered_weight: bool = False,
        device: torch.device | str | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        self.zero_centered_weight = zero_centered_weight
        super().__init__(normalized_shape, eps=eps, bias=False, device=device, dtype=dtype)
        self.dropout_p = dropout_p

    def reset_parameters(self) -> None:
        """The weight that leaves the normalised input as it is."""
        nn.init.zeros_(self.weight) if self.zero_centered_weight else nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of x; same shape and dtype."""
        x = F.dropout(x, self.dropout_p, self.training)
        if not self.zero_centered_weight:
            return rms_norm(x, self.weight, self.eps)
        # The sum with 1 is taken wide: in 16 bits it would round the deviation away.
        return rms_norm(x, self.weight.to(accumulation_dtype(x.dtype)) + 1, self.eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight * x / sqrt(mean(x^2) + eps) over the last dimension, rounded to the dtype of x once, at the end."""
    # A compiler chooses itself what to keep for the backward pass, and what to compute again.
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return RecomputingRMSNorm.apply(x, weight, eps)
    return _rms_norm(x, weight, eps)


class RecomputingRMSNorm(torch.autograd.Function):
    """`rms_norm` that keeps x alone for the backward pass, where autograd keeps two more tensors of its size.

    With n = x * scale, scale = 1 / sqrt(mean(x^2) + eps), the derivative of n along t is scale * (t - n * mean(n * t)),
    and equals its own transpose. Everything is differentiable again, forward and backward.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """As `rms_norm`."""
        return _rms_norm(x, weight, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        """Keep the inputs."""
        x, weight, ctx.eps = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Gradients of x and weight."""
        x, weight = ctx.saved_tensors
        normalised, scale = _normalised(x, ctx.eps)
        grad = grad.to(scale.dtype)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _along(grad * weight.to(scale.dtype), normalised, scale).to(x.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = (grad * normalised).sum_to_size(weight.shape).to(weight.dtype)
        return of_x, of_weight, None

    @staticmethod
    def jvp(ctx: Any, x_tangent: Tensor, weight_tangent: Tensor, _: None) -> Tensor:
        """Tangent of the output."""
        x, weight = ctx.saved_tensors
        normalised, scale = _normalised(x, ctx.eps)
        along_x = _along(x_tangent.to(scale.dtype), normalised, scale) * weight.to(scale.dtype)
        return (along_x + normalised * weight_tangent.to(scale.dtype)).to(x.dtype)


def _normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x divided by its root mean square, and the factor (..., 1) that does it, in the accumulation dtype."""
    wide = x.to(accumulation_dtype(x.dtype))
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return wide * scale, scale


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    normalised, scale = _normalised(x, eps)
    return (normalised * weight.to(scale.dtype)).to(x.dtype)


def _along(tangent: Tensor, normalised: Tensor, scale: Tensor) -> Tensor:
    """Derivative of the normalised x along a tangent of x."""
    return scale * (tangent - normalised * (normalised * tangent).mean(-1, keepdim=True))
