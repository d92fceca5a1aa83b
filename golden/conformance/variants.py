"""Config variants of a family, drawn from the fields that its hot recipe's config class has."""

import random
from collections.abc import Mapping
from typing import Any

from golden.models.hot import recipe

CHOICES: dict[str, tuple[Any, ...]] = {
    "num_hidden_layers": (1, 2, 4),
    "n_layer": (1, 2, 4),
    "num_key_value_heads": (1, 2, 4),
    "vocab_size": (257, 320, 331),
    "intermediate_size": (52, 64, 90),
    "n_inner": (None, 52, 90),
    "rms_norm_eps": (1e-6, 1e-5, 1e-3),
    "layer_norm_eps": (1e-6, 1e-5, 1e-3),
    "layer_norm_epsilon": (1e-6, 1e-5, 1e-3),
    "hidden_act": ("silu", "gelu", "gelu_new"),
    "activation_function": ("gelu_new", "gelu", "relu"),
    "tie_word_embeddings": (True, False),
    "attention_bias": (True, False),
    "mlp_bias": (True, False),
    "qk_layernorm": (True, False),
    "rotary_dim": (2, 6, 12),
    "scale_attn_weights": (True, False),
    "scale_attn_by_inverse_layer_idx": (True, False),
}

ROPES: tuple[dict[str, Any], ...] = (
    {"rope_type": "default", "rope_theta": 5e5},
    {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
    {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 40},
)
WINDOWS = {"use_sliding_window": (True, True, False), "sliding_window": (5, 24), "max_window_layers": (0, 1)}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.5, 2.0],
    "long_factor": [1.0, 3.0, 9.0],
}

# What the fields of a config class do not show, or only one family understands.
ONLY: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "llama": {"rope_parameters": ROPES},
    "mistral": {"rope_parameters": ROPES, "sliding_window": (None, 5, 24)},
    "qwen2": {"rope_parameters": ROPES, **WINDOWS},
    "qwen3": {"rope_parameters": ROPES, **WINDOWS},
    "phi": {"rope_parameters": ROPES, "partial_rotary_factor": (0.5, 1.0, 0.7)},
    "phi3": {
        "head_dim": (12,),
        "partial_rotary_factor": (0.5,),
        "rope_parameters": (ROPES[0], LONGROPE),
        "original_max_position_embeddings": (48, 160),
        "sliding_window": (None, 5, 24),
    },
}


def variant(family: str, seed: int) -> dict[str, Any]:
    """Overrides of the family's hot recipe; seed 0 overrides nothing."""
    import transformers

    if not seed:
        return {}
    draw = random.Random(seed)
    known = vars(getattr(transformers, recipe(family)[0])())
    choices = {name: values for name, values in CHOICES.items() if name in known} | dict(ONLY.get(family, {}))
    drawn = {name: draw.choice(values) for name, values in choices.items()}
    return {name: dict(value) if isinstance(value, dict) else value for name, value in drawn.items()}
