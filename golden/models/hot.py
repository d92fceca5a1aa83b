"""Hot models: tiny models with seeded weights, in which every weight matters.

A freshly initialised model hides faults: its norms are one and its biases zero, so swapped norms and lost biases change
nothing. Here norms are 1 ± 0.2, biases ± 0.2, and queries and keys have a gain of 1.5 so that attention is
peaked. No two sizes are equal by accident: heads x head_dim is not n_embd, the vocabulary is odd.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golden.errors import UnknownLevelError
from golden.models.loading import silenced

_WIDE: dict[str, Any] = {
    "vocab_size": 331,
    "hidden_size": 48,
    "intermediate_size": 88,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 160,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_GROUPED = _WIDE | {"num_key_value_heads": 2, "head_dim": 20}
_NARROW_POSITIONS: dict[str, Any] = {
    "vocab_size": 331,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 160,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

RECIPES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _GROUPED | {"rms_norm_eps": 1e-5}),
    "mistral": ("MistralConfig", _GROUPED | {"sliding_window": 24, "rms_norm_eps": 1e-5}),
    "qwen2": ("Qwen2Config", _GROUPED | {"rms_norm_eps": 1e-5}),
    "qwen3": ("Qwen3Config", _GROUPED),
    "phi": ("PhiConfig", _WIDE | {"num_key_value_heads": 2, "partial_rotary_factor": 0.5}),
    "phi3": ("Phi3Config", _GROUPED | {"partial_rotary_factor": 0.7, "sliding_window": 24}),
    "gpt2": ("GPT2Config", _NARROW_POSITIONS | {"tie_word_embeddings": False}),
    "gptj": ("GPTJConfig", _NARROW_POSITIONS | {"rotary_dim": 6, "tie_word_embeddings": False}),
    "codegen": ("CodeGenConfig", _NARROW_POSITIONS | {"rotary_dim": 6, "tie_word_embeddings": False}),
}
"""Family -> transformers' config class and the sizes of its hot model."""


def recipe(family: str) -> tuple[str, Mapping[str, Any]]:
    """The class and sizes of a family's hot model: those above, or what the family itself says.

    Raises:
        UnknownLevelError: there is no recipe for the family.
    """
    from converters.family import get_family

    found = RECIPES.get(family) or get_family(family).hot
    if found is None:
        raise UnknownLevelError(f"no hot model is known for {family!r}; give its FAMILY a `hot` recipe")
    return found


def has_recipe(family: str) -> bool:
    """Whether there is a hot model of a family."""
    from converters.family import get_family

    return family in RECIPES or get_family(family).hot is not None


def make_hot(family: str, folder: Path, seed: int = 0, **overrides: Any) -> Path:
    """Save a hot transformers model of ``family`` into ``folder`` and return it.

    Args:
        overrides: config fields that replace the recipe's.

    Raises:
        UnknownLevelError: there is no recipe for the family.
    """
    import transformers

    name, sizes = recipe(family)
    config = getattr(transformers, name)(**{**sizes, **overrides})
    with silenced(), torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        heat(model, seed)
        model.save_pretrained(folder)
    return folder


def heat(model: torch.nn.Module, seed: int) -> None:
    """Overwrite all parameters with the values of a hot model, drawn from ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_hot_values(name, parameter, generator))


def _hot_values(name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    noise: Tensor = torch.randn(parameter.shape, generator=generator)
    if name.endswith("bias"):
        return 0.2 * noise
    if parameter.ndim == 1:
        return 1.0 + 0.2 * noise
    gain = 1.5 if any(part in name for part in ("q_proj", "k_proj", "qkv", "c_attn", "Wqkv")) else 1.0
    return noise * (gain / math.sqrt(parameter.shape[-1]))
