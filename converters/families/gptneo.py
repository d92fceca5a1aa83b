"""GPT-Neo: a GPT-2 whose scores are not scaled, and where every second layer sees a window.

Source: transformers 5.23 `models/gpt_neo`. Its matrices are not transposed; q, k and v are apart and without biases.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field, Ours
from converters.config.kinds import FRACTION, POSITIVE_INT
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.activations import ACTIVATIONS
from converters.families.shared.causal_masks import LocalMask, masked_biases
from converters.families.shared.dialect_fields import even_heads, sizes
from converters.families.shared.gpt_fields import NO_ROTARY
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    LAYER_NORM,
    MIXER,
    MLP,
    NO_QK_NORM,
    PLAIN_MLP,
    SAME_SCALE,
    biases,
    block,
    eps,
    model,
)
from converters.families.shared.transformers_rules import QKV, linear, mlp_of, norm, vocabulary
from converters.families.shared.windows import LocalLayers
from converters.family import Family, Hot, Rule

BLOCK = "transformer.h.{i}."
SUMMARY = ("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj")


CONFIG = ConfigTable(
    called="GPT-Neo",
    entries=(
        *model("gpt_neo", "GPTNeoForCausalLM", "GPTNeoModel", tied=True, bos=50256, eos=50256),
        *block("sequential", "positional"),
        *sizes("hidden_size", "num_layers", "num_heads", "max_position_embeddings", 2048),
        even_heads("hidden_size", "num_heads", rotating=False),
        *biases(False, True),
        PLAIN_MLP,
        LAYER_NORM,
        NO_QK_NORM,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        LocalLayers(),
        eps("layer_norm_epsilon", 1e-5),
        Field(
            "intermediate_size",
            (MLP + "n_inner",),
            POSITIVE_INT,
            lambda t: 4 * t["hidden_size"],
            none=True,
            also=("n_inner",),
        ),
        Field("activation_function", (MLP + "act_fn",), ACTIVATIONS, "gelu_new", also=("activation_function",)),
        Field("resid_dropout", ("resid_pdrop",), FRACTION, 0.0),
        Field("embed_dropout", ("embd_pdrop",), FRACTION, 0.0),
        Ours(MIXER + "softmax_scale", (1.0,)),
        *NO_ROTARY,
    ),
    free=frozenset({*SUMMARY, "classifier_dropout", "gradient_checkpointing"}),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a GPT-Neo, by our resolved config."""
    return [
        Rule(("transformer.wpe.weight",), ("layers.0.wpe.weight",)),
        *norm(BLOCK + "ln_1", "layers.{b}.ln_1", ours),
        *norm(BLOCK + "ln_2", "layers.{b}.ln_2", ours),
        *linear([f"{BLOCK}attn.attention.{name}_proj" for name in "qkv"], "attn.Wqkv", False, QKV),
        *linear([BLOCK + "attn.attention.out_proj"], "attn.out_proj", True),
        *linear([BLOCK + "mlp.c_fc"], f"{mlp_of(ours)}.fc1", True),
        *linear([BLOCK + "mlp.c_proj"], f"{mlp_of(ours)}.fc2", True),
        *norm("transformer.ln_f", "layers.{h}.ln", ours),
        *vocabulary(ours, "transformer.wte.weight", "lm_head"),
    ]


FAMILY = Family(
    name="gptneo",
    title="GPT-Neo",
    model_types=("gpt_neo",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="transformer.",
    head="lm_head.weight",
    embedding="transformer.wte.weight",
    tied=True,
    buffers=(LocalMask(".attn.attention.bias"), *masked_biases(".attn.attention")),
    expresses="MHA; learned positions; a window on any layers; unscaled scores; tied or untied",
    hot=Hot(
        "GPTNeoConfig",
        {"vocab_size": 331, "hidden_size": 48, "num_layers": 3, "num_heads": 4, "max_position_embeddings": 160}
        | {
            "attention_types": [[["global", "local", "local"], 1]],
            "window_size": 24,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        {"attention_types": ([[["local"], 3]], [[["global"], 3]], [[["local", "global"], 1], [["local"], 1]])}
        | {"intermediate_size": (None, 90), "window_size": (5, 24)},
    ),
)
