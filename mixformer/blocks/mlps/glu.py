"""Gated linear units (Shazeer 2020, arXiv:2002.05202)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.blocks.mlps.sizes import activation, inner_width, mlp_path
from mixformer.precision import computed_in_own_dtype, floating_dtype


class GLU(nn.Module):
    """fc2(up * act(gate)) with (up, gate) = fc1(x), in this order: the reverse of Phi-3's `gate_up_proj`.

    Parameters: `fc1.weight` (2 * n_inner, n_embd), `fc2.weight` (n_embd, n_inner), no biases.

    Args:
        config: The model's configuration.
        n_inner: Width, by default `config.n_inner`, else 4 * n_embd.
        act_fn: Name in ACT2FN, by default `config.activation_function`.
        dtype: Name of the dtype of the weights, in which the part then computes; by default torch's.
        layer_idx: Index of the block, for errors.

    Raises:
        ConfigurationError: naming the keyword, what was found and what was expected.
    """

    has_bias = False

    def __init__(
        self,
        config: PreTrainedConfig,
        n_inner: int | None = None,
        act_fn: str | None = None,
        dtype: str | torch.dtype | None = None,
        layer_idx: int | None = None,
    ) -> None:
        super().__init__()
        path = mlp_path(config, layer_idx)
        self.n_inner = width = inner_width(config, n_inner, path)
        self.dtype = floating_dtype(dtype, path)
        self.act = activation(config, act_fn, path)
        self.fc1 = nn.Linear(config.n_embd, 2 * width, bias=self.has_bias, dtype=self.dtype)
        self.fc2 = nn.Linear(width, config.n_embd, bias=self.has_bias, dtype=self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_embd) to (..., n_embd)."""
        return computed_in_own_dtype(self._compute, x, self.fc1.weight, self.dtype)

    def _compute(self, x: Tensor) -> Tensor:
        up, gate = self.fc1(x).chunk(2, dim=-1)  # (..., n_inner) each
        return self.fc2(up * self.act(gate))


class BiasedGLU(GLU):
    """`GLU` with biases: `fc1.bias` (2 * n_inner,), `fc2.bias` (n_embd,), as LLaMA with `mlp_bias`."""

    has_bias = True
