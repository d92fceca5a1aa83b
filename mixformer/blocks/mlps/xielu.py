"""The MLP of Apertus: two matrices without biases, and an activation that learns (xIELU, arXiv:2411.13010)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.blocks.mlps.mlp import UnbiasedMLP
from mixformer.precision import accumulation_dtype


class XIELU(nn.Module):
    """a x^2 + beta x above 0, and b (exp(min(x, eps)) - 1 - x) + beta x elsewhere.

    a = softplus(alpha_p) and b = beta + softplus(alpha_n). Parameters: `alpha_p`, `alpha_n` (1,). Buffers that
    checkpoints hold: `beta`, `eps`, numbers. Computed in the accumulation dtype and rounded once.
    """

    beta: Tensor
    eps: Tensor

    def __init__(self, alpha_p: float = 0.8, alpha_n: float = 0.8, beta: float = 0.5, eps: float = -1e-6) -> None:
        super().__init__()
        self.alpha_p = nn.Parameter(torch.log(torch.expm1(torch.tensor([alpha_p]))))
        self.alpha_n = nn.Parameter(torch.log(torch.expm1(torch.tensor([alpha_n - beta]))))
        self.register_buffer("beta", torch.tensor(beta))
        self.register_buffer("eps", torch.tensor(eps))

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, in the dtype of x."""
        acc = accumulation_dtype(x.dtype)
        wide, beta, eps = x.to(acc), self.beta.to(acc), self.eps.to(acc)
        above = F.softplus(self.alpha_p.to(acc)) * wide * wide
        below = (torch.expm1(torch.minimum(wide, eps)) - wide) * (beta + F.softplus(self.alpha_n.to(acc)))
        return (torch.where(wide > 0, above, below) + beta * wide).to(x.dtype)


class XIELUMLP(UnbiasedMLP):
    """`UnbiasedMLP` with `XIELU` in the place of a named activation. Parameters: `act.*` besides.

    Args:
        config, n_inner, dtype, layer_idx: As in `MLP`.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        n_inner: int | None = None,
        dtype: str | torch.dtype | None = None,
        layer_idx: int | None = None,
    ) -> None:
        super().__init__(config, n_inner, dtype=dtype, layer_idx=layer_idx)
        self.act = XIELU()
