"""Mixers: modules that move information between positions."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from mixformer.architecture import block_path
from mixformer.blocks.mixers.mha import MHA
from mixformer.registry import class_and_keywords, takes

DEFAULT_MIXER = "mha"

MIXERS: dict[str, type[nn.Module]] = {"mha": MHA}


def get_mixer(
    config: PreTrainedConfig, mixer_config: dict[str, Any] | None = None, mixer_idx: int | None = None
) -> nn.Module:
    """The mixer that `mixer_config` names.

    Args:
        config: The model's configuration.
        mixer_config: `{"mixer_cls": ..., **keywords of the class}`, None for `{"mixer_cls": "mha"}`.
        mixer_idx: Index of the block, given to the class as `layer_idx` if it takes one.

    Raises:
        ConfigurationError: for an unknown name or contradicting sizes.
        UnknownKeywordError: for a keyword that the class does not take.
    """
    path = f"{block_path(config.architecture, mixer_idx)}.mixer"
    mixer_class, keywords = class_and_keywords(MIXERS, "mixer", mixer_config or {"mixer_cls": DEFAULT_MIXER}, path)
    if takes(mixer_class, "layer_idx"):
        keywords["layer_idx"] = mixer_idx
    return mixer_class(config, **keywords)
