"""Phi-3 and Phi-4: a LLaMA with q, k, v in one matrix and gate before up in another.

Source: transformers 5.23 `models/phi3`. Part of a head may rotate. Dropouts, a window and longrope are converted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.partial_rope import Phi3Rope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    GLU,
    NO_QK_NORM,
    PLAIN_SCALE,
    RMS_NORM,
    SAME_SCALE,
    biases,
    block,
    dropouts,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import GATE_UP, LAYER, linear, norm, vocabulary
from converters.families.shared.windows import SlidingWindow
from converters.family import Family, Rule
from converters.plan.known_buffers import Table

CONFIG = ConfigTable(
    called="Phi-3",
    entries=(
        *model("phi3", "Phi3ForCausalLM", "Phi3Model", bos=1, eos=32000, pad=32000),
        *block("sequential"),
        *heads(whole=False),
        *biases(False, False),
        *mlp("silu"),
        *dropouts(),
        GLU,
        RMS_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        NO_QK_NORM,
        ATTENTION_DROPOUT,
        positions(4096),
        eps("rms_norm_eps", 1e-5),
        SlidingWindow(None),
        Phi3Rope(1.0),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Phi-3, by our resolved config."""
    return [
        *norm(LAYER + "input_layernorm", "layers.{b}.ln_1", ours),
        *norm(LAYER + "post_attention_layernorm", "layers.{b}.ln_2", ours),
        *linear([LAYER + "self_attn.qkv_proj"], "attn.Wqkv", False),
        *linear([LAYER + "self_attn.o_proj"], "attn.out_proj", False),
        *linear([LAYER + "mlp.gate_up_proj"], "mlp.fc1", False, GATE_UP),
        *linear([LAYER + "mlp.down_proj"], "mlp.fc2", False),
        *norm("model.norm", "layers.{h}.ln", ours),
        *vocabulary(ours, "model.embed_tokens.weight", "lm_head"),
    ]


FAMILY = Family(
    name="phi3",
    title="Phi-3, Phi-3.5 and Phi-4",
    model_types=("phi3",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="MHA, GQA; partial rotary, default or longrope; one sliding window; tied or untied; no biases",
)
