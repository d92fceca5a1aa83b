"""Jais-2: a sequential MixFormer with LayerNorm, a plain MLP, and rotary positions as LLaMA has them.

Source: transformers 5.23 `models/jais2`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Choice, Field
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    LAYER_NORM,
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
from converters.family import Family, Hot, Rule

CONFIG = ConfigTable(
    called="Jais-2",
    entries=(
        *model("jais2", "Jais2ForCausalLM", "Jais2Model", bos=0, eos=150024),
        *block("sequential"),
        *heads(),
        *mlp("relu2"),
        *NO_DROPOUT,
        LAYER_NORM,
        NO_WINDOW,
        NO_QK_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(8192),
        eps("layer_norm_eps", 1e-5),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, True),
        Choice("mlp_bias", MLP + "mlp_cls", ((True, "mlp"), (False, "mlp_no_bias"))),
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Jais-2, by our resolved config."""
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
    name="jais2",
    title="Jais-2",
    model_types=("jais2",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    expresses="MHA, GQA; biases or none; any activation and rope type; tied or untied",
    hot=Hot(
        "Jais2Config",
        {
            "vocab_size": 331,
            "hidden_size": 48,
            "intermediate_size": 88,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 20,
            "max_position_embeddings": 160,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        {"hidden_act": ("relu2", "gelu", "silu")},
    ),
)
