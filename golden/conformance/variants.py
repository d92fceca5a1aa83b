"""Config variants of a family, drawn from the fields that its hot recipe's config class has."""

import random
from typing import Any

from golden.hot import RECIPES

CHOICES: dict[str, tuple[Any, ...]] = {
    "num_hidden_layers": (1, 2, 4),
    "n_layer": (1, 2, 4),
    "num_key_value_heads": (1, 2, 4),
    "vocab_size": (257, 320, 331),
    "intermediate_size": (52, 64, 90),
    "rms_norm_eps": (1e-6, 1e-5, 1e-3),
    "layer_norm_epsilon": (1e-6, 1e-5, 1e-3),
    "tie_word_embeddings": (True, False),
    "attention_bias": (True, False),
    "mlp_bias": (True, False),
    "rope_theta": (1e4, 5e5),
}


def variant(family: str, seed: int) -> dict[str, Any]:
    """Overrides of the family's hot recipe; seed 0 overrides nothing."""
    import transformers

    draw = random.Random(seed)
    known = vars(getattr(transformers, RECIPES[family][0])())
    return {name: draw.choice(values) for name, values in CHOICES.items() if name in known and seed}
