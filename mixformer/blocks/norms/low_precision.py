"""LayerNorm that computes in the autocast dtype."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mixformer.blocks.norms.torch_norm import LayerNorm


class LPLayerNorm(LayerNorm):
    """LayerNorm in the dtype of autocast where autocast is on, else torch's. Parameters: `weight`, `bias` (n,)."""

    def __init__(
        self,
        normalized_shape: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        device: torch.device | str | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        super().__init__(normalized_shape, eps=eps, elementwise_affine=elementwise_affine, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of x; the result has the autocast dtype, or that of x."""
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return super().forward(x)
        dtype = torch.get_autocast_dtype(device)
        weight, bias = (None if p is None else p.to(dtype) for p in (self.weight, self.bias))
        with torch.autocast(device_type=device, enabled=False):
            return F.layer_norm(x.to(dtype), self.normalized_shape, weight, bias, self.eps)
