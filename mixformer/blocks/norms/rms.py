"""RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467): weight * x / sqrt(mean(x^2) + eps)."""

from __future__ import annotations

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


class FlashRMSNorm(nn.LayerNorm):
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
        return rms_norm(x, self.weight + 1 if self.zero_centered_weight else self.weight, self.eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight * x / sqrt(mean(x^2) + eps) over the last dimension, rounded to the dtype of x once, at the end."""
    acc = accumulation_dtype(x.dtype)
    wide = x.to(acc)
    normalised = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return (normalised * weight.to(acc)).to(x.dtype)
