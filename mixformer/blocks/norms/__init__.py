"""Norms over the last dimension."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from mixformer.architecture import block_path
from mixformer.blocks.norms.l2 import L2Norm
from mixformer.blocks.norms.low_precision import LPLayerNorm
from mixformer.blocks.norms.rms import FlashRMSLayerNorm, RMSLayerNorm
from mixformer.blocks.norms.torch_norm import LayerNorm
from mixformer.errors import invalid
from mixformer.precision import floating_dtype
from mixformer.registry import class_and_keywords

DEFAULT_NORM = "torch"

NORMS: dict[str, type[nn.Module]] = {
    "torch": LayerNorm,
    "low_precision": LPLayerNorm,
    "rms": RMSLayerNorm,
    "flash_rms": FlashRMSLayerNorm,
    "l2": L2Norm,  # ours
}
# Those that the SDK can shard over a tensor-parallel group.
TP_NORMS = ("torch", "low_precision", "rms")


def get_norm(
    normalized_shape: int,
    norm_config: dict[str, Any] | None = None,
    *,
    config: PreTrainedConfig | None = None,
    block_idx: int | None = None,
    path: str | None = None,
    **keywords: Any,
) -> nn.Module:
    """The norm that `norm_config` names, over `normalized_shape` elements.

    Args:
        normalized_shape: Size of the last dimension.
        norm_config: `{"norm_cls": ..., **keywords of the class}`, None for `{"norm_cls": "torch"}`.
        config: With block_idx, only to name the place in errors.
        path: The place in errors, where it is not a block.
        keywords: Keywords of the class for a `norm_config` of None. A norm_config is taken as it is: this is why
            `layer_norm_epsilon` has no effect on blocks, here as in the SDK.

    Raises:
        ConfigurationError: for an unknown name, epsilon or dtype.
        UnknownKeywordError: for a keyword that the class does not take.
    """
    if norm_config is None:
        norm_config = {"norm_cls": DEFAULT_NORM, **keywords}
    if path is None:
        path = f"{block_path(config.architecture if config is not None else None, block_idx)}.norm"
    norm_class, keywords = class_and_keywords(NORMS, "norm", norm_config, path)
    eps = keywords.get("eps", 0.0)
    if isinstance(eps, bool) or not isinstance(eps, int | float) or eps < 0:
        raise invalid(f"{path}.eps", eps, "a number >= 0")
    if "dtype" in keywords:
        keywords["dtype"] = floating_dtype(keywords["dtype"], path)
    return norm_class(normalized_shape, **keywords)
