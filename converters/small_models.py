"""Small models of a family: one to try it with, and one to test it with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    """A small model: its config, and how tensors are drawn that are neither matrices nor biases.

    reach: end of a key -> (least, most) of the absolute values. signed: ends of keys whose values have either sign.
    bfloat16: ends of the keys of tensors that are stored in it; all others are float32.
    """

    config: Mapping[str, Any]
    reach: Mapping[str, tuple[float, float]]
    signed: tuple[str, ...] = ()
    bfloat16: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hot:
    """A small model that a family is tested with, and what the tests vary in it.

    config_class: the name of a config class of transformers, or "package.module.Class" of another; importing that
    module must register the class and its model with transformers' Auto classes. sizes: fields of the small model.
    draws: field -> values to try, in place of those that the tests know for the field; () leaves the field alone.
    refuses: what the family refuses on purpose, as name -> words that the refusal contains. harmless: wrong tables of
    the tests, by their names, that compute the same function as the right one.
    """

    config_class: str
    sizes: Mapping[str, Any]
    draws: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    refuses: Mapping[str, str] = field(default_factory=dict)
    harmless: tuple[str, ...] = ()


# Sizes of hot models, under the names that families share. Nothing fits by accident.
_TOKENS: dict[str, Any] = {"vocab_size": 331, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False}
PLAIN_SIZES: dict[str, Any] = _TOKENS | {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 160,
}
LONG_SIZES: dict[str, Any] = PLAIN_SIZES | {"intermediate_size": 88}
GPT_SIZES: dict[str, Any] = _TOKENS | {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 160}


def ropes(**more: Any) -> tuple[dict[str, Any], ...]:
    """Rope types of transformers to draw; `more` parameters in each."""
    return (
        {"rope_type": "default", "rope_theta": 5e5, **more},
        {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0, **more},
        {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0, **more},
        {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 40, **more},
    )
