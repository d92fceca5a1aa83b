"""Mistral: a LLaMA without biases whose queries see a window.

Source: transformers 5.23 `models/mistral`. A window of W tokens includes the query's own, so it is W - 1
keys to the left in ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.buffers import Table
from converters.common_fields import (
    ATTENTION_DROPOUT,
    GLU,
    NO_DROPOUT,
    NO_QK_NORM,
    PLAIN_SCALE,
    RMS_NORM,
    SAME_SCALE,
    biases,
    block,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.common_rules import llama_like
from converters.config_table import ConfigTable
from converters.family import Family, Rule
from converters.layout import dims_of
from converters.rope import Rope
from converters.rotary import inv_freq
from converters.windows import SlidingWindow

CONFIG = ConfigTable(
    entries=(
        *model("mistral", "MistralForCausalLM", "MistralModel", bos=1, eos=2),
        *block("sequential"),
        *heads(default_kv=8),
        *biases(False, False),
        *mlp("silu"),
        *NO_DROPOUT,
        GLU,
        RMS_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        NO_QK_NORM,
        ATTENTION_DROPOUT,
        positions(4096 * 32),
        eps("rms_norm_eps", 1e-6),
        SlidingWindow(4096),
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Mistral, by our resolved config."""
    return llama_like(ours)


FAMILY = Family(
    name="mistral",
    title="Mistral 7B and its like",
    model_types=("mistral",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama without biases; one sliding window for all layers",
)
