"""InternLM3: a LLaMA with biases in all of attention and MLP, or in none.

Source: transformers 5.23 `models/internlm3`, which runs it with the code of LLaMA.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.layout import BIASED_GLU, dims_of
from converters.config.table import ConfigTable
from converters.families.shared.decoders.one_for_all import BiasEverywhere
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    MLP,
    NO_QK_NORM,
    NO_WINDOW,
    heads,
    llama_decoder,
    model,
    positions,
)
from converters.families.shared.transformers_rules import llama_like
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

CONFIG = ConfigTable(
    called="InternLM3",
    entries=(
        *model(
            "internlm3",
            "InternLM3ForCausalLM",
            "InternLM3Model",
            bos=1,
            eos=2,
            pad=2,
            borrowed=("LlamaForCausalLM", "LlamaModel"),
        ),
        *llama_decoder(least=1e-5),
        *heads(default_kv=2, head_dim=128),
        NO_WINDOW,
        NO_QK_NORM,
        positions(32768),
        BiasEverywhere(("attention_bias", "mlp_bias"), False, (BIASED_GLU, "glu"), aliases=("qkv_bias", "bias")),
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of an InternLM3, by our resolved config."""
    return llama_like(ours, mlp_bias=ours[MLP + "mlp_cls"] == BIASED_GLU)


FAMILY = Family(
    name="internlm3",
    title="InternLM3",
    model_types=("internlm3",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama; biases everywhere or nowhere",
    hot=Hot(
        "InternLM3Config",
        WIDE | {"attention_bias": True, "mlp_bias": True},
        {"rope_parameters": ROPES, "attention_bias": (), "mlp_bias": ()},
    ),
)
