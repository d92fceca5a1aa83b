"""Mixers: modules that move information between positions.

A mixer is any module whose constructor takes the configuration and whose `forward` maps (B, S, n_embd) to
(B, S, n_embd), alone or as the head of a tuple, taking what else the model shares as keyword arguments. It is
registered by assignment::

    class Conv1dMixer(torch.nn.Module):
        def __init__(self, config, kernel_size=3, layer_idx=None):
            super().__init__()
            options = {"kernel_size": kernel_size, "padding": kernel_size - 1, "groups": config.n_embd}
            self.conv = torch.nn.Conv1d(config.n_embd, config.n_embd, **options)

        def forward(self, x, **kwargs):
            return self.conv(x.transpose(1, 2)).transpose(1, 2)[:, : x.shape[1]]

    MIXERS["conv1d"] = Conv1dMixer

A mixer is called with `attention_mask`, `position_ids`, `cu_seqlens` and `past_key_values`, as in the SDK, and with the
`context` from which `MHA` reads the same; it gets those that its forward takes. A mixer around `MHA` hands either on.

A mixer that decodes onto `past_key_values` says so with an attribute `supports_cache = True`; models with one that does
not generate without a cache. For one that says nothing, see `with_cache_support`. Parameters to keep in float32 are
named in an attribute `keep_in_fp32`.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from mixformer.architecture import block_path
from mixformer.blocks.branches import with_cache_support
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
    return with_cache_support(mixer_class(config, **keywords))
