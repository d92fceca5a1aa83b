"""The two-layer MLP, plain and under the names of the SDK's fused variant."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.blocks.mlps.sizes import activation, inner_width, mlp_path
from mixformer.precision import computed_in_own_dtype, floating_dtype

FIRST_GENERATION_NAMES = {"fc_in": "fc1", "fc_out": "fc2"}


class MLP(nn.Module):
    """fc2(act(fc1(x))), with biases. Parameters: `fc1` (n_inner, n_embd), `fc2` (n_embd, n_inner).

    Args:
        config: The model's configuration.
        n_inner: Width, by default `config.n_inner`, else 4 * n_embd.
        act_fn: Name in ACT2FN, by default `config.activation_function`.
        dtype: Name of the dtype of the weights, in which the part then computes; by default torch's.
        layer_idx: Index of the block, for errors.

    Raises:
        ConfigurationError: naming the keyword, what was found and what was expected.
    """

    has_bias = True

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
        self.fc1 = nn.Linear(config.n_embd, width, bias=self.has_bias, dtype=self.dtype)
        self.fc2 = nn.Linear(width, config.n_embd, bias=self.has_bias, dtype=self.dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        for old, new in FIRST_GENERATION_NAMES.items():
            for kind in ("weight", "bias"):
                if prefix + f"{old}.{kind}" in state_dict:
                    state_dict[prefix + f"{new}.{kind}"] = state_dict.pop(prefix + f"{old}.{kind}")
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_embd) to (..., n_embd)."""
        return computed_in_own_dtype(self._compute, x, self.fc1.weight, self.dtype)

    def _compute(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class UnbiasedMLP(MLP):
    """`MLP` without biases, as Nemotron and Arcee have it."""

    has_bias = False


class FusedMLP(nn.Module):
    """An `MLP` one level down, where the SDK's fused kernel keeps its weights: `mlp.fc1`, `mlp.fc2`.

    It computes the activation it was asked for; the SDK's kernel silently computes relu for anything but tanh-GELU.

    Args:
        config, dtype, n_inner, act_fn, layer_idx: As in `MLP`, in the SDK's order, which is another.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        dtype: str | torch.dtype | None = None,
        n_inner: int | None = None,
        act_fn: str | None = None,
        layer_idx: int | None = None,
    ) -> None:
        super().__init__()
        self.mlp = MLP(config, n_inner=n_inner, act_fn=act_fn, dtype=dtype, layer_idx=layer_idx)
        self.n_inner = self.mlp.n_inner

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_embd) to (..., n_embd)."""
        return self.mlp(x)
