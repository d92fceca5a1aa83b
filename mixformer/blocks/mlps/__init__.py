"""MLPs: position-wise networks."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from mixformer.architecture import block_path
from mixformer.blocks.mlps.glu import GLU, BiasedGLU
from mixformer.blocks.mlps.mlp import MLP, FusedMLP, UnbiasedMLP
from mixformer.blocks.mlps.moe import MoE
from mixformer.blocks.mlps.scaled_glu import ScaledGLU
from mixformer.blocks.mlps.xielu import XIELUMLP
from mixformer.registry import class_and_keywords, takes

DEFAULT_MLP = "fused_mlp"

# The last are ours: the SDK raises on the names, where it would ignore keywords of glu and mlp, biases and scales.
MLPS: dict[str, type[nn.Module]] = {
    "glu": GLU,
    "fused_mlp": FusedMLP,
    "mlp": MLP,
    "glu_bias": BiasedGLU,
    "glu_scaled": ScaledGLU,
    "mlp_no_bias": UnbiasedMLP,
    "mlp_xielu": XIELUMLP,
    "moe": MoE,
}


def get_mlp(
    config: PreTrainedConfig, mlp_config: dict[str, Any] | None = None, *, block_idx: int | None = None
) -> nn.Module:
    """The MLP that `mlp_config` names.

    Args:
        config: The model's configuration.
        mlp_config: `{"mlp_cls": ..., **keywords of the class}`, None for `{"mlp_cls": "fused_mlp"}`.
        block_idx: Index of the block, for errors and for classes that take `layer_idx`.

    Raises:
        ConfigurationError: for an unknown name or activation.
        UnknownKeywordError: for a keyword that the class does not take.
    """
    path = f"{block_path(config.architecture, block_idx)}.mlp"
    mlp_class, keywords = class_and_keywords(MLPS, "mlp", mlp_config or {"mlp_cls": DEFAULT_MLP}, path)
    if takes(mlp_class, "layer_idx") and block_idx is not None and "layer_idx" not in keywords:
        keywords["layer_idx"] = block_idx
    return mlp_class(config, **keywords)
