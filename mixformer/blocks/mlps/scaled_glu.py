"""The gated linear unit of nGPT (Loshchilov et al. 2024, arXiv:2410.01131): a learned scale before the gate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from mixformer.blocks.learned_scale import LearnedScale, scale_spec
from mixformer.blocks.mlps.glu import GLU
from mixformer.blocks.mlps.sizes import mlp_path


class ScaledGLU(GLU):
    """fc2(up * act(gate)) with (up, gate) = uv_scale(fc1(x)), in this order.

    Parameters: those of `GLU`, `uv_scale.weight` (2 * n_inner,), and the biases of fc1 and fc2 if asked for.

    Args:
        config, n_inner, act_fn, dtype, layer_idx: As in `GLU`.
        bias: Whether fc1 and fc2 have biases; that of fc1 is scaled too.
        uv_scale: See `ScaleSpec`.

    Raises:
        ConfigurationError: naming the keyword, what was found and what was expected.
    """

    keep_in_fp32 = ("uv_scale",)

    def __init__(
        self,
        config: PreTrainedConfig,
        n_inner: int | None = None,
        act_fn: str | None = None,
        dtype: str | torch.dtype | None = None,
        layer_idx: int | None = None,
        bias: bool = False,
        uv_scale: dict[str, Any] | None = None,
    ) -> None:
        self.has_bias = bias
        super().__init__(config, n_inner, act_fn, dtype, layer_idx)
        spec = scale_spec(uv_scale, f"{mlp_path(config, layer_idx)}.uv_scale")
        self.uv_scale = LearnedScale(self.fc1.out_features, spec)

    def _compute(self, x: Tensor) -> Tensor:
        up, gate = self.uv_scale(self.fc1(x)).chunk(2, dim=-1)  # (..., n_inner) each
        return self.fc2(up * self.act(gate))
