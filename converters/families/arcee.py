"""Arcee (AFM): a LLaMA with a plain MLP, whose activation is a squared ReLU.

Source: transformers 5.23 `models/arcee`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Choice, Field
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.part_layout import UNBIASED_MLP
from converters.config.table import ConfigTable
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    MIXER,
    MLP,
    NO_QK_NORM,
    NO_WINDOW,
    heads,
    llama_decoder,
    model,
    positions,
)
from converters.families.shared.transformers_rules import LAYER, linear, llama_attention, norm, vocabulary
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

CONFIG = ConfigTable(
    called="Arcee",
    entries=(
        *model("arcee", "ArceeForCausalLM", "ArceeModel", bos=128000, eos=128001),
        *llama_decoder(act="relu2", least=1e-5),
        *heads(),
        NO_WINDOW,
        NO_QK_NORM,
        positions(4096),
        Choice("mlp_bias", MLP + "mlp_cls", ((False, UNBIASED_MLP), (True, "mlp"))),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of an Arcee, by our resolved config."""
    biased = ours[MLP + "mlp_cls"] == "mlp"
    return [
        *norm(LAYER + "input_layernorm", "layers.{b}.ln_1", ours),
        *norm(LAYER + "post_attention_layernorm", "layers.{b}.ln_2", ours),
        *llama_attention(ours),
        *linear([LAYER + "mlp.up_proj"], "mlp.fc1", biased),
        *linear([LAYER + "mlp.down_proj"], "mlp.fc2", biased),
        *norm("model.norm", "layers.{h}.ln", ours),
        *vocabulary(ours, "model.embed_tokens.weight", "lm_head"),
    ]


FAMILY = Family(
    name="arcee",
    title="Arcee AFM",
    model_types=("arcee",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama with a plain MLP; biases or none; any activation and rope type",
    hot=Hot("ArceeConfig", WIDE, {"rope_parameters": ROPES, "hidden_act": ("relu2", "gelu", "silu")}),
)
