"""Starcoder2: a sequential MixFormer with LayerNorm, a plain MLP, biases, grouped heads and a window.

Source: transformers 5.23 `models/starcoder2`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field
from converters.config.kinds import FRACTION
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.decoders.one_for_all import BiasEverywhere
from converters.families.shared.hot_sizes import ROPES, SIZES
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.refusals import relics
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    LAYER_NORM,
    MIXER,
    NO_QK_NORM,
    PLAIN_SCALE,
    SAME_SCALE,
    block,
    eps,
    heads,
    mlp,
    model,
    positions,
)
from converters.families.shared.transformers_rules import LAYER, linear, llama_attention, mlp_of, norm, vocabulary
from converters.families.shared.windows import SlidingWindow
from converters.family import Family, Rule
from converters.plan.known_buffers import Table
from converters.small_models import Hot

CONFIG = ConfigTable(
    called="Starcoder2",
    entries=(
        *model(
            "starcoder2",
            "Starcoder2ForCausalLM",
            "Starcoder2Model",
            tied=True,
            bos=50256,
            eos=50256,
            initializer=0.018042,
        ),
        *block("sequential"),
        *heads(default_kv=2),
        *mlp("gelu_pytorch_tanh"),
        LAYER_NORM,
        NO_QK_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        positions(4096),
        eps("norm_epsilon", 1e-5),
        Field("embedding_dropout", ("embd_pdrop",), FRACTION, 0.0),
        Field("residual_dropout", ("resid_pdrop",), FRACTION, 0.0),
        BiasEverywhere(("use_bias",), True),
        SlidingWindow(None),
        *relics(
            activation_function=("gelu", "gelu_pytorch_tanh"),
            layer_norm_epsilon=(1e-5,),
            mlp_type=("default",),
            norm_type=("layer_norm",),
            attention_softmax_in_fp32=(True,),
            scale_attention_softmax_in_fp32=(True,),
            scale_attn_weights=(True,),
        ),
        Rope(),
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Starcoder2, by our resolved config."""
    return [
        *norm(LAYER + "input_layernorm", "layers.{b}.ln_1", ours),
        *norm(LAYER + "post_attention_layernorm", "layers.{b}.ln_2", ours),
        *llama_attention(ours),
        *linear([LAYER + "mlp.c_fc"], f"{mlp_of(ours)}.fc1", ours[MIXER + "bias"]),
        *linear([LAYER + "mlp.c_proj"], f"{mlp_of(ours)}.fc2", ours[MIXER + "bias"]),
        *norm("model.norm", "layers.{h}.ln", ours),
        *vocabulary(ours, "model.embed_tokens.weight", "lm_head"),
    ]


FAMILY = Family(
    name="starcoder2",
    title="Starcoder2",
    model_types=("starcoder2",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    tied=True,
    expresses="MHA, GQA; biases; one sliding window; any activation and rope type; tied or untied",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    hot=Hot(
        "Starcoder2Config",
        SIZES | {"sliding_window": 24},
        {
            "rope_parameters": ROPES,
            "sliding_window": (None, 5, 24),
            "use_bias": (True, False),
            "norm_epsilon": (1e-5, 1e-3),
            "hidden_act": ("gelu_pytorch_tanh", "gelu", "silu"),
        },
    ),
)
