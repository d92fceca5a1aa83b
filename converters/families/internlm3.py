"""InternLM3: a LLaMA with one switch for the biases of attention and one for those of the MLP, which are equal.

Source: transformers 5.23 `models/internlm3`, which runs it with the code of LLaMA.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Choice, Field
from converters.config.kinds import BOOL
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
        *model("internlm3", "LlamaForCausalLM", "LlamaModel", bos=1, eos=2, pad=2),
        *llama_decoder(least=1e-5),
        *heads(default_kv=2, head_dim=128),
        NO_WINDOW,
        NO_QK_NORM,
        positions(32768),
        Choice("mlp_bias", MLP + "mlp_cls", ((False, "glu"), (True, BIASED_GLU))),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False, aliases=("qkv_bias",)),
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
    expresses="as llama",
    hot=Hot("InternLM3Config", WIDE, {"rope_parameters": ROPES, "attention_bias": (), "mlp_bias": ()}),
)
