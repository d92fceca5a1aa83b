"""Division by the Euclidean length, without parameters: the norm of nGPT (Loshchilov et al. 2024, arXiv:2410.01131)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mixformer.precision import accumulation_dtype


class L2Norm(nn.Module):
    """x / max(|x|, eps) over the last dimension, computed in the accumulation dtype and rounded once. No parameters.

    A vector of zeros stays zeros: a padded position sees no key, so attention gives zeros there, and 0 / 0 would spread
    through every later layer.
    """

    def __init__(self, normalized_shape: int, eps: float = 0.0) -> None:
        super().__init__()
        self.normalized_shape, self.eps = normalized_shape, eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of x; same shape and dtype."""
        return unit(x.to(accumulation_dtype(x.dtype)), eps=self.eps).to(x.dtype)


def unit(x: Tensor, dim: int = -1, eps: float = 0.0) -> Tensor:
    """x / max(|x|, eps) along `dim`, 0 for a vector of zeros, which has no gradient either."""
    length = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    # The smallest normal number in place of 0 keeps the unused branch, and its gradient, free of NaN.
    return (x / length.clamp_min(max(eps, torch.finfo(x.dtype).tiny))).masked_fill(length == 0, 0.0)
