"""Keywords that all MLPs share, read from a configuration."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from mixformer.architecture import block_path
from mixformer.errors import invalid


def mlp_path(config: PreTrainedConfig, layer_idx: int | None) -> str:
    """Where the MLP stands in the architecture, for errors."""
    return f"{block_path(config.architecture, layer_idx)}.mlp"


def inner_width(config: PreTrainedConfig, n_inner: int | None, path: str) -> int:
    """n_inner of the MLP, else of the configuration, else 4 * n_embd.

    Raises:
        ConfigurationError: unless it is a positive whole number.
    """
    width = n_inner if n_inner is not None else config.n_inner
    if width is None:
        return 4 * config.n_embd
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise invalid(f"{path}.n_inner", width, "a whole number >= 1")
    return width


def activation(config: PreTrainedConfig, act_fn: str | None, path: str) -> nn.Module:
    """The activation named in the MLP, else in the configuration: any name in transformers' ACT2FN, or "gelu_bloom".

    Raises:
        ConfigurationError: for an unknown name.
    """
    name = act_fn if act_fn is not None else config.activation_function
    if name == BloomGELU.name:
        return BloomGELU()
    if name not in ACT2FN:
        known = [*ACT2FN, BloomGELU.name]
        raise invalid(f"{path}.act_fn" if act_fn is not None else "activation_function", name, f"one of {known}")
    return ACT2FN[name]


class BloomGELU(nn.Module):
    """The tanh form of GELU with sqrt(2 / pi) in eight digits, which moves float64 logits by 1e-9 (BLOOM)."""

    name = "gelu_bloom"  # ours

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return x * 0.5 * (1.0 + torch.tanh(0.79788456 * x * (1 + 0.044715 * x * x)))
