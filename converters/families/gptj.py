"""GPT-J: the function of CodeGen, with q, k and v as three tensors.

Source: transformers 5.23 `models/gptj`. Its rotary pairs are interleaved; ours are half-split.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.moves import Concat
from converters.algebra.views import Each, Then
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.causal_masks import MASKED_BIASES, CausalMask
from converters.families.shared.gpt_fields import gptj_block, gptj_rules
from converters.families.shared.inv_freq import HALVES
from converters.families.shared.transformers_fields import model
from converters.families.shared.transformers_rules import linear
from converters.family import SAME, Family, Rule

QKV = Then((Each((HALVES, HALVES, SAME)), Concat(("q_rows", "q_rows", "q_rows"))))
CONFIG = ConfigTable(
    called="GPT-J",
    entries=(*model("gptj", "GPTJForCausalLM", "GPTJModel", bos=50256, eos=50256), *gptj_block()),
    free=frozenset({"n_ctx", "gradient_checkpointing", "scale_attn_weights", "rotary"}),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a GPT-J, by our resolved config."""
    qkv = [f"transformer.h.{{i}}.attn.{name}_proj" for name in "qkv"]
    return [*gptj_rules(ours), *linear(qkv, "mixer.Wqkv", False, QKV)]


FAMILY = Family(
    name="gptj",
    title="GPT-J 6B and models of its architecture",
    model_types=("gptj",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="transformer.",
    head="lm_head.weight",
    embedding="transformer.wte.weight",
    buffers=(CausalMask(".attn.bias"), *MASKED_BIASES),
    expresses="MHA; any rotary_dim, n_inner and activation; head bias; tied or untied",
)
