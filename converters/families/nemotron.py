"""Nemotron: LayerNorms whose weight is a deviation from 1, a plain MLP with a squared ReLU, half of each head rotates.

Source: transformers 5.23 `models/nemotron`.
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
from converters.families.shared.part_fields import ZERO_CENTRED_LAYER_NORM
from converters.families.shared.partial_rope import PartialRope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    MIXER,
    MLP,
    NO_DROPOUT,
    NO_QK_NORM,
    NO_WINDOW,
    PLAIN_SCALE,
    SAME_SCALE,
    block,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import LAYER, linear, llama_attention, norm, vocabulary
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

CONFIG = ConfigTable(
    called="Nemotron",
    entries=(
        *model("nemotron", "NemotronForCausalLM", "NemotronModel", bos=2, eos=3, initializer=0.0134),
        *block("sequential"),
        *heads(whole=False),
        *mlp("relu2"),
        *NO_DROPOUT,
        *ZERO_CENTRED_LAYER_NORM,
        NO_WINDOW,
        NO_QK_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(4096),
        eps("norm_eps", 1e-5),
        Choice("mlp_bias", MLP + "mlp_cls", ((False, UNBIASED_MLP), (True, "mlp"))),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        PartialRope(0.5),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Nemotron, by our resolved config."""
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
    name="nemotron",
    title="Nemotron-3, Nemotron-4 and Minitron (dense)",
    model_types=("nemotron",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="MHA, GQA; partial rotary of any type; LayerNorms around 1; a plain MLP; biases or none",
    hot=Hot(
        "NemotronConfig",
        WIDE,
        {
            "rope_parameters": ROPES,
            "partial_rotary_factor": (0.5, 1.0, 0.2),
            "norm_eps": (1e-5, 1e-3),
            "hidden_act": ("relu2", "gelu"),
        },
    ),
)
