"""LLaMA under torchtune's names, with interleaved rotary pairs, as Meta has them; without any biases.

Source: torchtune 0.6.1, `models/convert_weights.py` (`hf_to_tune`), `models/llama3_1/_component_builders.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.layout import BIASED_GLU
from converters.errors import ConfigRefused
from converters.families import llama
from converters.families.shared.dialects.torchtune_names import torchtune_family, torchtune_rules
from converters.families.shared.transformers_fields import MIXER, MLP
from converters.family import Rule


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a LLaMA in torchtune, by our resolved config.

    Raises:
        ConfigRefused: it has biases.
    """
    if ours[MIXER + "bias"] or ours[MIXER + "out_bias"] or ours[MLP + "mlp_cls"] == BIASED_GLU:
        raise ConfigRefused(
            "attention_bias or mlp_bias is true, but torchtune's LLaMA has no biases; keep transformers' names for"
            " this model"
        )
    return torchtune_rules(ours)


FAMILY = torchtune_family("llama", "LLaMA", llama.CONFIG, rules, "as llama without biases")
