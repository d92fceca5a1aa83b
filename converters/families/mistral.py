"""Mistral: a LLaMA without biases whose queries see a window.

Source: transformers 5.23 `models/mistral`. A window of W tokens includes the query's own, so it is W - 1
keys to the left in ours.
"""

from converters.buffers import Table
from converters.common_fields import (
    GLU,
    NO_QK_NORM,
    biases,
    heads,
    llama_decoder,
    model,
    positions,
)
from converters.common_rules import llama_like
from converters.config_table import ConfigTable
from converters.family import Family
from converters.layout import dims_of
from converters.rope import Rope
from converters.rotary import inv_freq
from converters.windows import SlidingWindow

CONFIG = ConfigTable(
    entries=(
        *model("mistral", "MistralForCausalLM", "MistralModel", bos=1, eos=2),
        *llama_decoder(),
        *heads(default_kv=8),
        *biases(False, False),
        GLU,
        NO_QK_NORM,
        positions(4096 * 32),
        SlidingWindow(4096),
        Rope(),
    ),
)

FAMILY = Family(
    name="mistral",
    title="Mistral 7B and its like",
    model_types=("mistral",),
    config=CONFIG,
    rules=llama_like,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama without biases; one sliding window for all layers",
)
