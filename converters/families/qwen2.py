"""Qwen2 and Qwen2.5: a LLaMA with biases on q, k and v only, and windows that may differ from layer to layer.

Source: transformers 5.23 `models/qwen2`. Layers with different windows are a list architecture in ours.
"""

from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    GLU,
    NO_QK_NORM,
    biases,
    heads,
    llama_decoder,
    model,
    positions,
)
from converters.families.shared.transformers_rules import llama_like
from converters.families.shared.windows import LayerWindows
from converters.family import Family
from converters.plan.known_buffers import Table

CONFIG = ConfigTable(
    called="Qwen2",
    entries=(
        *model("qwen2", "Qwen2ForCausalLM", "Qwen2Model", bos=None, eos=None),
        *llama_decoder(),
        *heads(default_kv=32),
        *biases(True, False),
        GLU,
        NO_QK_NORM,
        positions(32768),
        LayerWindows(),
        Rope(),
    ),
)

FAMILY = Family(
    name="qwen2",
    title="Qwen2 and Qwen2.5",
    model_types=("qwen2",),
    config=CONFIG,
    rules=llama_like,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama with biases on q, k and v; one sliding window for any of the layers",
)
