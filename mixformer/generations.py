"""Converting configurations of earlier generations to the current form.

| generation | recognised by | what fields that are absent mean |
| --- | --- | --- |
| first | `architecture` with `mixer: {}` | mha, torch norm with `layer_norm_epsilon`, rotary_dim 32 |
| second | no `architecture` | parallel, plain mlp, torch norm with `layer_norm_epsilon`, rotary_dim 32 |
| phi-msft | its `model_type` | as the second |
| SDK | `architecture` with classes, or `phyagi_version` | as `MixFormerSequentialConfig` |

The first generation is recognised by the configuration class itself, since people also write it by hand.
"""

from __future__ import annotations

import copy
from typing import Any

from mixformer.plugins import INSTALLED

PHI_MSFT = "phi-msft"
FLAT_ROTARY_DIM = 32

# Fields of the earlier generations that choose kernels and do not change the function.
_FLAT_KERNEL_CHOICES = ("flash_rotary", "fused_dense", "flash_attn")


def as_current_generation(config_dict: dict[str, Any]) -> dict[str, Any]:
    """A copy of `config_dict` in which a flat configuration has become an explicit one."""
    current = copy.deepcopy(config_dict)
    if INSTALLED:
        current.pop("auto_map", None)  # it names code in the model's folder, which this package replaces
    if _is_flat(current):
        _make_explicit(current)
    return current


def _is_flat(config: dict[str, Any]) -> bool:
    if config.get("model_type") == PHI_MSFT:
        return True
    has_architecture = config.get("architecture") or config.get("blocks")
    return not has_architecture and "phyagi_version" not in config


def _make_explicit(config: dict[str, Any]) -> None:
    mixer: dict[str, Any] = {"mixer_cls": "mha"}
    if config.get("attn_pdrop"):
        mixer["dropout"] = config["attn_pdrop"]
    config.pop("attn_pdrop", None)
    for key in _FLAT_KERNEL_CHOICES:
        config.pop(key, None)
    config["model_type"] = "mixformer-sequential"
    config["architecture"] = {
        "block_cls": "parallel",
        "norm": {"norm_cls": "torch", "eps": config.get("layer_norm_epsilon", 1e-5)},
        "mixer": mixer,
        "mlp": {"mlp_cls": "mlp"},
    }
    heads = config.get("n_head", config.get("num_attention_heads", 16))
    width = config.get("n_embd", config.get("hidden_size", 1024))
    config["rotary_dim"] = min(config.get("rotary_dim") or FLAT_ROTARY_DIM, width // heads)
