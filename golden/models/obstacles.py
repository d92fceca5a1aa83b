"""What a model cannot be run in, known from its config alone: so that it is said, instead of tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from golden.models.loading import says_mixformer


def obstacle(config: Mapping[str, Any], dtype: torch.dtype, attn: str | None = None) -> str | None:
    """Why a model cannot run in a dtype, or with an attention backend, in a sentence; None where nothing is known.

    Args:
        config: its config.json, or what a native file says.
        attn: transformers' name of the backend; None: the model's default.
    """
    if says_mixformer(config):
        return _of_mixformer(config, dtype, attn or "sdpa")
    if config.get("model_type") == "ngpt-tutorial" and dtype is torch.float16:
        from golden.references.ngpt_tutorial import NO_HALF

        return NO_HALF
    return None


def _of_mixformer(config: Mapping[str, Any], dtype: torch.dtype, attn: str) -> str | None:
    from mixformer import MixFormerSequentialConfig
    from mixformer.blocks.mixers.masked_linear import kernel_obstacle

    try:
        settings = MixFormerSequentialConfig.from_dict(dict(config))
    except (ValueError, TypeError, KeyError, AttributeError):  # no model can be built of it, which L2 says
        return None
    reason: str | None = kernel_obstacle(settings, attn, dtype)
    return reason
