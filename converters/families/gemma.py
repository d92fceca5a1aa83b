"""Gemma: a LLaMA with embeddings times the root of their width, and norms whose weight is a deviation from 1.

Source: transformers 5.23 `models/gemma`. The activation "gelu" of old configs means its tanh form.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field, Theirs
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.part_layout import SCALED_TABLE
from converters.config.table import ConfigTable
from converters.families.shared.activations import ACTIVATIONS
from converters.families.shared.decoders.gemmas import CAUSAL, RootOfWidth
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.part_fields import ZERO_CENTRED_RMS
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    GLU,
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
    inner_width,
    model,
    positions,
)
from converters.families.shared.transformers_rules import llama_like
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

TANH = "gelu_pytorch_tanh"
OLD = (("gelu", TANH),)

CONFIG = ConfigTable(
    called="Gemma",
    entries=(
        *model("gemma", "GemmaForCausalLM", "GemmaModel", tied=True, bos=2, eos=1, pad=0),
        *block("sequential", SCALED_TABLE),
        *heads(default_kv=16, head_dim=256),
        *NO_DROPOUT,
        *ZERO_CENTRED_RMS,
        RootOfWidth(),
        inner_width(),
        Field(
            "hidden_act",
            (MLP + "act_fn",),
            ACTIVATIONS,
            TANH,
            also=("activation_function",),
            synonyms=(("gelu", TANH),),
        ),
        Theirs("hidden_activation", (None, TANH), "transformers ignores it for Gemma", False),
        GLU,
        NO_WINDOW,
        NO_QK_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(8192),
        eps("rms_norm_eps", 1e-6),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        CAUSAL,
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Gemma, by our resolved config."""
    return llama_like(ours)


FAMILY = Family(
    name="gemma",
    title="Gemma and CodeGemma",
    model_types=("gemma",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    tied=True,
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama with norms around 1 and embeddings times the root of their width",
    hot=Hot("GemmaConfig", WIDE, {"rope_parameters": ROPES, "hidden_act": (TANH, "gelu", "silu")}),
)
