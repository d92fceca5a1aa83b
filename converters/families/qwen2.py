"""Qwen2 and Qwen2.5: a LLaMA with biases on q, k and v alone, and windows that may differ from layer to layer.

Source: transformers 5.23 `models/qwen2`. Layers with different windows are a list architecture in ours.
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
from converters.windows import LayerWindows

CONFIG = ConfigTable(
    entries=(
        *model("qwen2", "Qwen2ForCausalLM", "Qwen2Model", bos=None, eos=None),
        *block("sequential"),
        *heads(default_kv=32),
        *biases(True, False),
        *mlp("silu"),
        *NO_DROPOUT,
        GLU,
        RMS_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        NO_QK_NORM,
        ATTENTION_DROPOUT,
        positions(32768),
        eps("rms_norm_eps", 1e-6),
        LayerWindows(),
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Qwen2, by our resolved config."""
    return llama_like(ours)


FAMILY = Family(
    name="qwen2",
    title="Qwen2 and Qwen2.5",
    model_types=("qwen2",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as llama with biases on q, k and v; one sliding window for any of the layers",
)
