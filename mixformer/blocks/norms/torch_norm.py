"""torch's LayerNorm, for weights of another dtype than the input too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """LayerNorm. Parameters: `weight`, `bias` (n,).

    With weights of another dtype than the input (`norm.dtype`) it computes in the wider of the two.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of x; same shape and dtype."""
        alike = self.weight is None or self.weight.dtype == x.dtype
        if alike or torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        wide = torch.promote_types(self.weight.dtype, x.dtype)
        weight, bias = (None if p is None else p.to(wide) for p in (self.weight, self.bias))
        return F.layer_norm(x.to(wide), self.normalized_shape, weight, bias, self.eps).to(x.dtype)
