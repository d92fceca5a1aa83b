"""Helium: a LLaMA whose rotary pairs are neighbours, so that the rows of q and k are re-ordered.

Source: transformers 5.23 `models/helium`. The output matrix of attention is square and has no bias.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.views import Each, Then
from converters.config.entries import Choice, Field, Ours
from converters.config.kinds import BOOL
from converters.config.layout import BIASED_GLU, dims_of
from converters.config.table import ConfigTable
from converters.families.shared.decoders.one_for_all import FullWidth
from converters.families.shared.hot_sizes import ROPES, SIZES
from converters.families.shared.inv_freq import halves_of, inv_freq
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
from converters.families.shared.transformers_rules import QKV, llama_like
from converters.family import SAME, Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

PAIRED = Then((Each((halves_of("n_head"), halves_of("n_head_kv"), SAME)), QKV))

CONFIG = ConfigTable(
    called="Helium",
    entries=(
        *model("helium", "HeliumForCausalLM", "HeliumModel", bos=1, eos=2, pad=3),
        *llama_decoder(least=1e-8),
        *heads(default_kv=20, head_dim=128),
        FullWidth(128),
        NO_WINDOW,
        NO_QK_NORM,
        positions(4096),
        Choice("mlp_bias", MLP + "mlp_cls", ((False, "glu"), (True, BIASED_GLU))),
        Field("attention_bias", (MIXER + "bias",), BOOL, False),
        Ours(MIXER + "out_bias", (False,)),
        Rope(1e5),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Helium, by our resolved config."""
    return llama_like(ours, mlp_bias=ours[MLP + "mlp_cls"] == BIASED_GLU, qkv=PAIRED)


FAMILY = Family(
    name="helium",
    title="Helium",
    model_types=("helium",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama with head_dim hidden_size / heads, and no bias on the output of attention",
    hot=Hot("HeliumConfig", SIZES | {"head_dim": 12}, {"rope_parameters": ROPES}),
)
