"""MPT: LayerNorms without biases, no other biases, exact GELU, and distances as biases of scores (ALiBi).

Source: transformers 5.23 `models/mpt`. Of `attn_config` it reads softmax_scale, clip_qkv and attn_pdrop alone: scores
always have biases, with a largest one of 8, and the MLP is always four times as wide.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field, Ours, Theirs, Written
from converters.config.kinds import FRACTION, POSITIVE, Kind
from converters.config.layout import dims_of
from converters.config.part_layout import ALIBI_BIAS_MAX, ALIBI_FORMULA, UNBIASED_MLP
from converters.config.table import ConfigTable
from converters.families.shared.dialect_fields import Implied, even_heads, sizes
from converters.families.shared.gpt_fields import NO_ROTARY, PLAIN_ATTENTION, Nested
from converters.families.shared.part_fields import clip
from converters.families.shared.transformers_fields import (
    LAYER_NORM,
    MIXER,
    MLP,
    NORM,
    SAME_SCALE,
    biases,
    block,
    eps,
    model,
)
from converters.families.shared.transformers_rules import linear, mlp_of, norm, vocabulary
from converters.family import Family, Hot, Rule

SCALE = Kind("a positive number or null", lambda value: value is None or POSITIVE.holds(value))
BLOCK = "transformer.blocks.{i}."
UNREAD = "transformers 5.23 computes the model as if it were not so"
ATTENTION = (
    Field("attn_pdrop", (MIXER + "dropout",), FRACTION, 0.0),
    Field("softmax_scale", (MIXER + "softmax_scale",), SCALE, None),
    clip("clip_qkv"),
    Theirs("attn_type", ("multihead_attention",), UNREAD),
    Theirs("alibi", (True,), UNREAD),
    Theirs("alibi_bias_max", (8,), UNREAD),
    Theirs("qk_ln", (False,), UNREAD),
    Theirs("prefix_lm", (False,), UNREAD),
    Theirs("attn_uses_sequence_id", (False,), UNREAD),
)


CONFIG = ConfigTable(
    called="MPT",
    entries=(
        *model("mpt", "MptForCausalLM", "MptModel", tied=True, bos=None, eos=None, alibi=True),
        *block("sequential"),
        *sizes("d_model", "n_layers", "n_heads", "max_seq_len", 2048),
        even_heads("d_model", "n_heads", rotating=False),
        Implied((MLP + "n_inner",), (("d_model", "n_embd"),), lambda width: 4 * width, "4 d_model", ("n_inner",)),
        *biases(False, False),
        *NO_ROTARY,
        *PLAIN_ATTENTION[:2],
        SAME_SCALE,
        LAYER_NORM,
        Ours(NORM + "bias", (False,)),
        eps("layer_norm_epsilon", 1e-5),
        Ours(MLP + "mlp_cls", (UNBIASED_MLP,)),
        Ours(MLP + "act_fn", ("gelu",)),
        Written("activation_function", "gelu"),
        Ours(ALIBI_FORMULA, ("mpt",)),
        Ours(ALIBI_BIAS_MAX, (8.0, None), written=False),
        Field("resid_pdrop", ("resid_pdrop",), FRACTION, 0.0),
        Field("emb_pdrop", ("embd_pdrop",), FRACTION, 0.0),
        Nested("attn_config", ATTENTION, frozenset({"attn_impl"})),
        Theirs("expansion_ratio", (4,), UNREAD),
        Theirs("no_bias", (True,), UNREAD),
        Theirs("logit_scale", (None,), UNREAD),
        Theirs("norm_type", ("low_precision_layernorm", "layernorm"), UNREAD, written=False),
    ),
    free=frozenset(
        {"embedding_fraction", "init_device", "init_config", "learned_pos_emb", "verbose", "tokenizer_name"}
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of an MPT, by our resolved config."""
    return [
        *norm(BLOCK + "norm_1", "layers.{b}.ln_1", ours),
        *norm(BLOCK + "norm_2", "layers.{b}.ln_2", ours),
        *linear([BLOCK + "attn.Wqkv"], "attn.Wqkv", False),
        *linear([BLOCK + "attn.out_proj"], "attn.out_proj", False),
        *linear([BLOCK + "ffn.up_proj"], f"{mlp_of(ours)}.fc1", False),
        *linear([BLOCK + "ffn.down_proj"], f"{mlp_of(ours)}.fc2", False),
        *norm("transformer.norm_f", "layers.{h}.ln", ours),
        *vocabulary(ours, "transformer.wte.weight", "lm_head"),
    ]


FAMILY = Family(
    name="mpt",
    title="MPT",
    model_types=("mpt",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="transformer.",
    head="lm_head.weight",
    embedding="transformer.wte.weight",
    tied=True,
    expresses="MHA with any number of heads; ALiBi; any scale of scores, bounded q, k and v; tied or untied",
    hot=Hot(
        "MptConfig",
        {
            "vocab_size": 331,
            "d_model": 48,
            "n_layers": 3,
            "n_heads": 6,
            "max_seq_len": 160,
            "tie_word_embeddings": False,
        },
        {"n_heads": (1, 3, 6, 16), "attn_config": ({"clip_qkv": 0.9}, {"softmax_scale": 0.4}, {"attn_pdrop": 0})},
    ),
)
