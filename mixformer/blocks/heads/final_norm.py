"""The norm before a head."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedConfig

from mixformer.blocks.norms import get_norm


def final_norm(config: PreTrainedConfig) -> nn.Module:
    """The norm of the blocks for a dict architecture; `config.final_norm` for a list.

    A list without `final_norm` gets a LayerNorm with `layer_norm_epsilon`, whatever its blocks use, as in the SDK.
    """
    if isinstance(config.architecture, dict):
        return get_norm(config.n_embd, config.architecture["norm"], path="architecture.norm")
    return get_norm(config.n_embd, config.final_norm, path="final_norm", eps=config.layer_norm_epsilon)
