"""The gated linear unit of nGPT (Loshchilov et al. 2024, arXiv:2410.01131): a learned scale before the gate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from mixformer.blocks.learned_scale import LearnedScale, ScaleSpec, scale_spec
from mixformer.blocks.mlps.glu import GLU
from mixformer.blocks.mlps.sizes import mlp_path
from mixformer.blocks.unit_linear import COLUMNS, ROWS, linear_as_asked


class TwoInits(LearnedScale):
    """A scale whose second half begins at an effective value of its own, `gate_init`."""

    def __init__(self, size: int, spec: ScaleSpec, gate_init: float) -> None:
        super().__init__(size, spec)
        self.gate_init = gate_init

    def effective(self, dtype: torch.dtype) -> Tensor:
        """The factors, (size,), in a dtype of at least float32."""
        if self.gate_init == self.spec.init:
            return super().effective(dtype)
        up, gate = self.weight.to(dtype).chunk(2)
        scaling = self.spec.scaling
        return torch.cat((up * (self.spec.init / scaling), gate * (self.gate_init / scaling)))


class ScaledGLU(GLU):
    """fc2(up * act(gate)) with (up, gate) = uv_scale(fc1(x)), in this order.

    Parameters: those of `GLU`, `uv_scale.weight` (2 * n_inner,), and the biases of fc1 and fc2 if asked for.

    Args:
        config, n_inner, act_fn, dtype, layer_idx: As in `GLU`.
        bias: Whether fc1 and fc2 have biases; that of fc1 is scaled too.
        uv_scale: See `ScaleSpec`.
        gate_init: `init` of the half of uv_scale that acts on the gate, by default that of uv_scale.
        unit_weights: The rows of `fc1` and the columns of `fc2` have length 1 when they are used.

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
        gate_init: float | None = None,
        unit_weights: bool = False,
    ) -> None:
        self.has_bias = bias
        super().__init__(config, n_inner, act_fn, dtype, layer_idx)
        spec = scale_spec(uv_scale, f"{mlp_path(config, layer_idx)}.uv_scale")
        self.uv_scale = TwoInits(self.fc1.out_features, spec, spec.init if gate_init is None else gate_init)
        self.fc1 = linear_as_asked(self.fc1, unit_weights, ROWS)
        self.fc2 = linear_as_asked(self.fc2, unit_weights, COLUMNS)

    def _compute(self, x: Tensor) -> Tensor:
        up, gate = self.uv_scale(self.fc1(x)).chunk(2, dim=-1)  # (..., n_inner) each
        return self.fc2(up * self.act(gate))
