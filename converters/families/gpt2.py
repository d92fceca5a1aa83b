"""GPT-2: a sequential MixFormer with learned positions, LayerNorm and no rotary embedding.

Source: transformers 5.23 `models/gpt2`. Its matrices are stored as `Conv1D`, (inputs, outputs), so each is transposed;
`c_attn` holds q, k and v in our order already.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.moves import Transpose
from converters.config.echo import Echo
from converters.config.entries import Choice, Flag, Ours, Theirs
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.absent_biases import BiasFlag, has_biases, zero_in_theirs
from converters.families.shared.causal_masks import MASKED_BIASES, CausalMask
from converters.families.shared.gpt_fields import gpt_sizes
from converters.families.shared.transformers_fields import (
    LAYER_NORM,
    MIXER,
    NO_QK_NORM,
    NO_WINDOW,
    PLAIN_MLP,
    block,
    eps,
    model,
)
from converters.families.shared.transformers_rules import linear, mlp_of, norm, vocabulary
from converters.family import Family, Rule

BLOCK = "transformer.h.{i}."
BIASES = (  # with their sizes; zero where ours has no biases
    (BLOCK + "ln_1", "n_embd"),
    (BLOCK + "ln_2", "n_embd"),
    (BLOCK + "attn.c_attn", "qkv_rows"),
    (BLOCK + "attn.c_proj", "n_embd"),
    ("transformer.ln_f", "n_embd"),
)
CONFIG = ConfigTable(
    called="GPT-2",
    entries=(
        *model(
            "gpt2", "GPT2LMHeadModel", "GPT2Model", tied=True, bos=50256, eos=50256, beside=("GPT2DoubleHeadsModel",)
        ),
        *block("sequential", "positional"),
        *gpt_sizes(n_positions=1024, dropout=0.1),
        Echo("n_ctx", lambda ours: ours["n_positions"], "n_positions is", written=True),  # llama.cpp has no default
        BiasFlag(),
        PLAIN_MLP,
        LAYER_NORM,
        NO_WINDOW,
        NO_QK_NORM,
        eps("layer_norm_epsilon", 1e-5),
        Ours(MIXER + "rotary_dim", (0, -1), also=("rotary_dim",)),
        Ours(MIXER + "rotary_base", (10000.0,), written=False),
        Choice("scale_attn_weights", MIXER + "softmax_scale", ((True, None), (False, 1.0))),
        Flag("scale_attn_by_inverse_layer_idx", MIXER + "scale_attn_by_inverse_layer_idx"),
        Theirs("add_cross_attention", (False,), "only models without an encoder can be converted", written=False),
    ),
    free=frozenset({"reorder_and_upcast_attn", "gradient_checkpointing"}),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a GPT-2, by our resolved config."""
    return [
        Rule(("transformer.wpe.weight",), ("layers.0.wpe.weight",)),
        *norm(BLOCK + "ln_1", "layers.{b}.ln_1", ours),
        *norm(BLOCK + "ln_2", "layers.{b}.ln_2", ours),
        *_conv("attn.c_attn", "attn.Wqkv", has_biases(ours)),
        *_conv("attn.c_proj", "attn.out_proj", has_biases(ours)),
        *_conv("mlp.c_fc", f"{mlp_of(ours)}.fc1"),
        *_conv("mlp.c_proj", f"{mlp_of(ours)}.fc2"),
        *norm("transformer.ln_f", "layers.{h}.ln", ours),
        *vocabulary(ours, "transformer.wte.weight", "lm_head"),
        *([] if has_biases(ours) else [zero_in_theirs(ours, f"{key}.bias", size) for key, size in BIASES]),
    ]


def _conv(theirs: str, ours: str, has_bias: bool = True) -> list[Rule]:
    weight, *bias = linear([BLOCK + theirs], ours, has_bias)
    return [Rule(weight.theirs, weight.ours, Transpose()), *bias]


FAMILY = Family(
    name="gpt2",
    title="GPT-2 and models of its architecture",
    model_types=("gpt2",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="transformer.",
    head="lm_head.weight",
    head_names=("lm_head.decoder.weight",),  # of pytorch-pretrained-bert
    embedding="transformer.wte.weight",
    tied=True,
    buffers=(CausalMask(".attn.bias"), *MASKED_BIASES),
    expresses="MHA; any n_inner and activation; unscaled scores, scores scaled by layer; tied or untied",
)
