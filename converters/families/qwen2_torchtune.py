"""Qwen2 under torchtune's names.

Source: torchtune 0.6.1, `models/qwen2`: pairs are halves there, so no rows move.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.families import qwen2
from converters.families.shared.dialects.torchtune_names import torchtune_family, torchtune_rules
from converters.families.shared.transformers_rules import QKV
from converters.family import Rule


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Qwen2 in torchtune, by our resolved config."""
    return torchtune_rules(ours, QKV)


FAMILY = torchtune_family("qwen2", "Qwen2", qwen2.CONFIG, rules, "as qwen2")
