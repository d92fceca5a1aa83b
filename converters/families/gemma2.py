"""Gemma-2: a Gemma with norms on both sides of each branch, caps on scores and logits, and windows on some layers.

Source: transformers 5.23 `models/gemma2`. Scores are divided by the root of `query_pre_attn_scalar`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.part_layout import SCALED_TABLE
from converters.config.table import ConfigTable
from converters.families.shared.decoders.gemmas import CAUSAL, RootOfWidth
from converters.families.shared.decoders.layer_kinds import KindWindows, every
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.part_fields import ZERO_CENTRED_RMS, ScoreScale, logit_cap, residual_block, score_cap
from converters.families.shared.refusals import relics
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    GLU,
    MIXER,
    NO_DROPOUT,
    NO_QK_NORM,
    SAME_SCALE,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import gemma_norms, llama_body
from converters.families.shared.windows import FULL, SLIDING
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

CONFIG = ConfigTable(
    called="Gemma-2",
    entries=(
        *model("gemma2", "Gemma2ForCausalLM", "Gemma2Model", tied=True, bos=2, eos=1, pad=0, capped=True),
        *residual_block("both", embedding=SCALED_TABLE),
        *heads(default_kv=4, head_dim=256),
        *mlp("gelu_pytorch_tanh", "hidden_activation"),
        *NO_DROPOUT,
        *ZERO_CENTRED_RMS,
        RootOfWidth(),
        GLU,
        NO_QK_NORM,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(8192),
        eps("rms_norm_eps", 1e-6),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        ScoreScale("query_pre_attn_scalar", 256, root=True),
        score_cap("attn_logit_softcapping", 50.0),
        logit_cap("final_logit_softcapping", 30.0),
        KindWindows(4096, every(2, "")),
        CAUSAL,
        *relics(hidden_act=("gelu_pytorch_tanh",), cache_implementation=("hybrid",)),
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Gemma-2, by our resolved config."""
    return [*gemma_norms(ours), *llama_body(ours)]


FAMILY = Family(
    name="gemma2",
    title="Gemma-2",
    model_types=("gemma2",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    tied=True,
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as gemma with norms before and after branches; caps of scores and logits; a window on any of the layers",
    hot=Hot(
        "Gemma2Config",
        WIDE | {"sliding_window": 24, "query_pre_attn_scalar": 20, "attn_logit_softcapping": 5.0},
        {
            "num_hidden_layers": (),
            "layer_types": (None, [SLIDING, SLIDING, FULL], [FULL, FULL, FULL]),
            "sliding_window": (5, 24),
            "query_pre_attn_scalar": (20, 7, 144),
            "attn_logit_softcapping": (None, 3.0, 50.0),
            "final_logit_softcapping": (None, 4.0, 30.0),
            "rope_parameters": ROPES,
            "hidden_activation": ("gelu_pytorch_tanh", "silu"),
        },
    ),
)
