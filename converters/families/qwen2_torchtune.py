"""Qwen2 under torchtune's names.

Source: torchtune 0.6.1, `models/qwen2`: pairs are halves there, so no rows move.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.layout import dims_of
from converters.families import qwen2
from converters.families.shared.dialects.torchtune_names import EMBEDDING, HEAD, torchtune_rules, torchtune_table
from converters.families.shared.transformers_rules import QKV
from converters.family import Family, Rule

NAME = "qwen2-torchtune"


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Qwen2 in torchtune, by our resolved config."""
    return torchtune_rules(ours, QKV)


FAMILY = Family(
    name=NAME,
    title="Qwen2 under torchtune's names, with the config.json of transformers",
    model_types=(NAME,),
    config=torchtune_table(NAME, qwen2.CONFIG),
    rules=rules,
    dims=dims_of,
    head=HEAD,
    embedding=EMBEDDING,
    expresses="as qwen2",
    dialect_of="qwen2",
    safetensors=True,
)
