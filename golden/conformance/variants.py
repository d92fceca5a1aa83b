"""Config variants of a family: its hot model, and several that differ from it in every field that is drawn."""

import copy
import random
from collections.abc import Sequence
from typing import Any

from converters.errors import ConversionError
from golden.models.hot import hot_config, recipe

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
"""Field -> values, for every family whose config class has the field and whose recipe does not draw it itself."""
LEAST_DRAWN = 4


def variants(family: str) -> list[dict[str, Any]]:
    """Overrides of the family's hot config. The first overrides nothing; the others are drawn.

    There are as many that every value of every field is drawn once, four at least. The order of each field's values is
    its own, so that a further field does not change what is drawn for the others.
    """
    known = vars(hot_config(family))
    drawn = {name: values for name, values in CHOICES.items() if name in known} | dict(recipe(family).draws)
    drawn = {name: values for name, values in drawn.items() if values}
    count = max(LEAST_DRAWN, *map(len, drawn.values())) if drawn else 0
    columns = {name: _column(name, values, count) for name, values in drawn.items()}
    return [{}, *({name: copy.deepcopy(column[k]) for name, column in columns.items()} for k in range(count))]


def _column(name: str, values: Sequence[Any], count: int) -> list[Any]:
    """`count` values in an order that only the name decides, each of them as often as any other or once more."""
    column = [values[k % len(values)] for k in range(count)]
    random.Random(name).shuffle(column)
    return column


def refused_as(family: str, refusal: ConversionError) -> str | None:
    """The name under which a family says that it refuses this on purpose; None if it does not say so."""
    return next((name for name, words in recipe(family).refuses.items() if words and words in str(refusal)), None)
