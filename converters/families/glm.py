"""GLM-4 of 2024 (GLM-4-9B): a LLaMA with neighbouring rotary pairs in a half of each head.

Source: transformers 5.23 `models/glm`. Up and gate are one matrix, the other way round than ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.decoders.glms import glm_attention_and_mlp, glm_entries
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.transformers_fields import block
from converters.families.shared.transformers_rules import LAYER, norm
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

CONFIG = ConfigTable(called="GLM", entries=(*glm_entries("glm", "Glm"), *block("sequential")))


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a GLM, by our resolved config."""
    return [
        *norm(LAYER + "input_layernorm", "layers.{b}.ln_1", ours),
        *norm(LAYER + "post_attention_layernorm", "layers.{b}.ln_2", ours),
        *glm_attention_and_mlp(ours),
    ]


FAMILY = Family(
    name="glm",
    title="GLM-4-9B and GLM-Edge",
    model_types=("glm",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="GQA, MHA; partial rotary of any type; biases on q, k and v",
    hot=Hot("GlmConfig", WIDE, {"rope_parameters": ROPES, "partial_rotary_factor": (0.5, 1.0, 0.2)}),
)
