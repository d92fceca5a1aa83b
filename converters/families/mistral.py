"""Mistral: a LLaMA without biases and with a sliding window.

Source: transformers 5.23 `models/mistral`. A window of W tokens includes the query's own, so it is W - 1
keys to the left in ours.
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
from converters.families.shared.windows import SlidingWindow
from converters.family import Family
from converters.plan.known_buffers import Table

CONFIG = ConfigTable(
    called="Mistral",
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
    title="Mistral 7B and models of its architecture",
    model_types=("mistral",),
    config=CONFIG,
    rules=llama_like,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama without biases; one sliding window for all layers",
)
