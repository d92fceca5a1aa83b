"""Granite: a LLaMA with multipliers of embeddings, branches, scores and logits.

Source: transformers 5.23 `models/granite`. Logits are divided by `logits_scaling`; ours multiplies by its inverse.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Choice, Field
from converters.config.kinds import BOOL
from converters.config.layout import BIASED_GLU, dims_of
from converters.config.part_layout import SCALED
from converters.config.table import ConfigTable
from converters.families.shared.hot_sizes import ROPES, SIZES
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.part_fields import (
    ScoreScale,
    embedding_multiplier,
    logit_divisor,
    residual_block,
    residual_multiplier,
)
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    MIXER,
    MLP,
    NO_DROPOUT,
    NO_QK_NORM,
    NO_WINDOW,
    RMS_NORM,
    SAME_SCALE,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import llama_like
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

CONFIG = ConfigTable(
    called="Granite",
    entries=(
        *model("granite", "GraniteForCausalLM", "GraniteModel", bos=1, eos=2),
        *residual_block("before", embedding=SCALED, scaled=True),
        *heads(),
        *mlp("silu"),
        *NO_DROPOUT,
        RMS_NORM,
        NO_WINDOW,
        NO_QK_NORM,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(2048),
        eps("rms_norm_eps", 1e-6),
        Choice("mlp_bias", MLP + "mlp_cls", ((False, "glu"), (True, BIASED_GLU))),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        embedding_multiplier("embedding_multiplier", 1.0),
        residual_multiplier("residual_multiplier", 1.0),
        ScoreScale("attention_multiplier", 1.0),
        logit_divisor("logits_scaling", 1.0),
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Granite, by our resolved config."""
    return llama_like(ours, mlp_bias=ours[MLP + "mlp_cls"] == BIASED_GLU)


FAMILY = Family(
    name="granite",
    title="Granite 3 (dense)",
    model_types=("granite",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama with multipliers of embeddings, branches, scores and logits",
    hot=Hot(
        "GraniteConfig",
        SIZES
        | {
            "embedding_multiplier": 6.0,
            "residual_multiplier": 0.375,
            "attention_multiplier": 0.25,
            "logits_scaling": 3.0,
        },
        {
            "rope_parameters": ROPES,
            "embedding_multiplier": (1.0, 12.0),
            "residual_multiplier": (1.0, 0.22),
            "attention_multiplier": (0.0078125, 0.4, 12**-0.5),
            "logits_scaling": (1.0, 8.0, 13),
        },
    ),
)
