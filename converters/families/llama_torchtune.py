"""LLaMA under torchtune's names, with interleaved rotary pairs, as Meta has them; without any biases.

Source: torchtune 0.6.1, `models/convert_weights.py` (`hf_to_tune`), `models/llama3_1/_component_builders.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.layout import BIASED_GLU, dims_of
from converters.errors import ConfigRefused
from converters.families import llama
from converters.families.shared.dialects.torchtune_names import EMBEDDING, HEAD, torchtune_rules, torchtune_table
from converters.families.shared.transformers_fields import MIXER, MLP
from converters.family import Family, Rule

NAME = "llama-torchtune"


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


FAMILY = Family(
    name=NAME,
    title="LLaMA under torchtune's names, with the config.json of transformers",
    model_types=(NAME,),
    config=torchtune_table(NAME, llama.CONFIG),
    rules=rules,
    dims=dims_of,
    head=HEAD,
    embedding=EMBEDDING,
    expresses="as llama without biases",
    dialect_of="llama",
    safetensors=True,
)
