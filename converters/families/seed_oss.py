"""Seed-OSS: a LLaMA with biases on q, k and v, a bias on the output of its own, and dropout of both branches.

Source: transformers 5.23 `models/seed_oss`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Choice, Field, Ours, Theirs
from converters.config.kinds import BOOL, FRACTION
from converters.config.layout import BIASED_GLU, dims_of
from converters.config.table import ConfigTable
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    MIXER,
    MLP,
    NO_QK_NORM,
    NO_WINDOW,
    PLAIN_SCALE,
    RMS_NORM,
    SAME_SCALE,
    block,
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
    called="Seed-OSS",
    entries=(
        *model("seed_oss", "SeedOssForCausalLM", "SeedOssModel", bos=0, eos=2, pad=1),
        *block("sequential"),
        *heads(default_kv=8, head_dim=128),
        *mlp("silu"),
        RMS_NORM,
        NO_WINDOW,
        NO_QK_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        Ours("embd_pdrop", (0.0,)),
        positions(524288),
        eps("rms_norm_eps", 1e-6),
        Choice("mlp_bias", MLP + "mlp_cls", ((False, "glu"), (True, BIASED_GLU))),
        Field("attention_bias", (MIXER + "bias",), BOOL, True),
        Field("attention_out_bias", (MIXER + "out_bias",), BOOL, False),
        Field("attention_dropout", (MIXER + "dropout",), FRACTION, 0.1),
        Field("residual_dropout", ("resid_pdrop",), FRACTION, 0.1),
        Rope(),
        Theirs("pretraining_tp", (1,), "into how many parts a product was cut in training", False),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Seed-OSS, by our resolved config."""
    return llama_like(ours, mlp_bias=ours[MLP + "mlp_cls"] == BIASED_GLU)


FAMILY = Family(
    name="seed-oss",
    title="Seed-OSS",
    model_types=("seed_oss",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama; biases on q, k, v and on the output apart; dropout of branches",
    hot=Hot(
        "SeedOssConfig",
        WIDE,
        {
            "rope_parameters": ROPES,
            "attention_out_bias": (True, False),
            "attention_dropout": (0.0, 0.1),
            "residual_dropout": (0.1, 0.0),
        },
    ),
)
