"""torch's LayerNorm, for weights of another dtype than the input too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixformer.precision import accumulation_dtype


class LayerNorm(nn.LayerNorm):
    """LayerNorm. Parameters: `weight`, `bias` (n,).

    With weights of another dtype than the input (`norm.dtype`) it computes in the wider of the two.

    Args:
        normalized_shape, eps, elementwise_affine, bias, device, dtype: As in torch.
        zero_centered_weight: Ours. The weight is a deviation from 1 and starts at 0, as in Nemotron.
    """

    def __init__(
        self,
        normalized_shape: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: str | torch.dtype | None = None,
        *,
        zero_centered_weight: bool = False,
    ) -> None:
        self.zero_centered_weight = zero_centered_weight
        super().__init__(normalized_shape, eps, elementwise_affine, bias, device, dtype)

    def reset_parameters(self) -> None:
        """The weight that leaves the normalised input as it is, and no bias."""
        super().reset_parameters()
        if self.zero_centered_weight and self.weight is not None:
            nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of x; same shape and dtype."""
        if self.zero_centered_weight and self.weight is not None:
            return self._around_one(x)
        alike = self.weight is None or self.weight.dtype == x.dtype
        if alike or torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        wide = torch.promote_types(self.weight.dtype, x.dtype)
        weight, bias = (None if p is None else p.to(wide) for p in (self.weight, self.bias))
        return F.layer_norm(x.to(wide), self.normalized_shape, weight, bias, self.eps).to(x.dtype)

    def _around_one(self, x: Tensor) -> Tensor:
        """With the weight as a deviation from 1; computed in the accumulation dtype and rounded once."""
        acc = accumulation_dtype(x.dtype)
        weight, bias = self.weight.to(acc) + 1, None if self.bias is None else self.bias.to(acc)
        return F.layer_norm(x.to(acc), self.normalized_shape, weight, bias, self.eps).to(x.dtype)
