"""Qwen3: a LLaMA whose queries and keys are normalised per head, and whose windows may differ from layer to layer.

Source: transformers 5.23 `models/qwen3`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field, Ours
from converters.config.kinds import BOOL
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    GLU,
    MIXER,
    heads,
    llama_decoder,
    model,
    positions,
)
from converters.families.shared.transformers_rules import LAYER, llama_like, norm
from converters.families.shared.windows import LayerWindows
from converters.family import Family, Rule
from converters.plan.known_buffers import Table

CONFIG = ConfigTable(
    called="Qwen3",
    entries=(
        *model("qwen3", "Qwen3ForCausalLM", "Qwen3Model", bos=None, eos=None),
        *llama_decoder(),
        *heads(default_kv=32, head_dim=128),
        GLU,
        Ours(MIXER + "qk_norm", (True,)),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        positions(32768),
        LayerWindows(),
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Qwen3, by our resolved config."""
    names = [(f"{LAYER}self_attn.{name}", f"layers.{{b}}.attn.{name}") for name in ("q_norm", "k_norm")]
    return [*llama_like(ours), *(rule for theirs, mine in names for rule in norm(theirs, mine, ours))]


FAMILY = Family(
    name="qwen3",
    title="Qwen3 (dense)",
    model_types=("qwen3",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama with normalised queries and keys; one sliding window for any of the layers",
)
