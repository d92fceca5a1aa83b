"""GLM-4 of 2025 (GLM-4-0414): norms on both sides of each branch, neighbouring rotary pairs in a half of each head.

Source: transformers 5.23 `models/glm4`. Up and gate are one matrix, the other way round than ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.decoders.glms import glm_attention_and_mlp, glm_entries
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.part_fields import residual_block
from converters.families.shared.transformers_rules import LAYER, norm
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

CONFIG = ConfigTable(called="GLM-4", entries=(*glm_entries("glm4", "Glm4"), *residual_block("both")))
NORMS = (
    ("input_layernorm", "ln_1"),
    ("post_self_attn_layernorm", "after_1"),
    ("post_attention_layernorm", "ln_2"),
    ("post_mlp_layernorm", "after_2"),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a GLM-4, by our resolved config."""
    norms = (rule for theirs, mine in NORMS for rule in norm(LAYER + theirs, f"layers.{{b}}.{mine}", ours))
    return [*norms, *glm_attention_and_mlp(ours)]


FAMILY = Family(
    name="glm4",
    title="GLM-4-0414 and GLM-Z1 (dense)",
    model_types=("glm4",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="GQA, MHA; partial rotary of any type; norms before and after branches; biases on q, k and v",
    hot=Hot("Glm4Config", WIDE, {"rope_parameters": ROPES, "partial_rotary_factor": (0.5, 1.0, 0.2)}),
)
