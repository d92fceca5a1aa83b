"""Gemma-3, the text model: a Gemma-2 with norms of queries and keys, and a rope for each kind of layer.

Source: transformers 5.23 `models/gemma3` (`Gemma3TextConfig`, `Gemma3ForCausalLM`), which reads no cap on scores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field, Theirs
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.part_layout import SCALED_TABLE
from converters.config.table import ConfigTable
from converters.families.shared.decoders.gemmas import CAUSAL, KindRopes, RootOfWidth
from converters.families.shared.decoders.layer_kinds import KindWindows, every
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.part_fields import HEAD_NORM, ZERO_CENTRED_RMS, ScoreScale, logit_cap, residual_block
from converters.families.shared.refusals import relics
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    GLU,
    MIXER,
    NO_DROPOUT,
    SAME_SCALE,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import gemma_norms, llama_body, qk_norms
from converters.families.shared.windows import FULL, SLIDING
from converters.family import Family, Rule
from converters.small_models import Hot

WINDOWS = KindWindows(
    4096, every(6, "sliding_window_pattern"), names=("sliding_window_pattern", "_sliding_window_pattern")
)

CONFIG = ConfigTable(
    called="Gemma-3",
    entries=(
        *model("gemma3_text", "Gemma3ForCausalLM", "Gemma3TextModel", tied=True, bos=2, eos=1, pad=0),
        *residual_block("both", embedding=SCALED_TABLE),
        *heads(default_kv=4, head_dim=256),
        *mlp("gelu_pytorch_tanh", "hidden_activation"),
        *NO_DROPOUT,
        *ZERO_CENTRED_RMS,
        RootOfWidth(),
        HEAD_NORM,
        GLU,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(131072),
        eps("rms_norm_eps", 1e-6),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        ScoreScale("query_pre_attn_scalar", 256, root=True),
        Theirs("attn_logit_softcapping", (None,), "transformers ignores it for Gemma-3", False),
        logit_cap("final_logit_softcapping", None),
        WINDOWS,
        CAUSAL,
        *relics(cache_implementation=("hybrid",)),
        KindRopes(WINDOWS),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Gemma-3, by our resolved config."""
    return [*gemma_norms(ours), *qk_norms(ours), *llama_body(ours)]


FAMILY = Family(
    name="gemma3-text",
    title="Gemma-3, the text model",
    model_types=("gemma3_text",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    tied=True,
    expresses="as gemma2 with normalised queries and keys and a rope for each kind of layer; no cap of scores",
    hot=Hot(
        "Gemma3TextConfig",
        WIDE | {"sliding_window": 24, "query_pre_attn_scalar": 20, "layer_types": [SLIDING, FULL, SLIDING]},
        {
            "num_hidden_layers": (),
            "layer_types": (None, [SLIDING, SLIDING, FULL], [FULL, FULL, FULL]),
            "sliding_window": (5, 24),
            "query_pre_attn_scalar": (20, 7, 144),
            "attn_logit_softcapping": (),
            "final_logit_softcapping": (None, 4.0, 30.0),
            "rope_parameters": tuple({FULL: one, SLIDING: ROPES[k]} for k, one in enumerate(ROPES[1:])),
            "hidden_activation": ("gelu_pytorch_tanh", "silu"),
        },
    ),
)
