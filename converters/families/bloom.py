"""BLOOM: LayerNorms, biases, a norm behind the embedding, and distances as biases of scores (ALiBi).

Source: transformers 5.23 `models/bloom`. The rows of `query_key_value` are head after head, each with q, k and v.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.moves import Rows
from converters.config.entries import Field, Ours, Theirs, Written
from converters.config.kinds import FRACTION, POSITIVE_INT
from converters.config.layout import dims_of
from converters.config.part_layout import ALIBI_FORMULA, NORMED
from converters.config.table import ConfigTable
from converters.families.shared.dialect_fields import Implied, even_heads
from converters.families.shared.gpt_fields import NO_ROTARY, PLAIN_ATTENTION, Renamed
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    LAYER_NORM,
    MIXER,
    MLP,
    PLAIN_MLP,
    biases,
    block,
    eps,
    model,
)
from converters.families.shared.transformers_rules import linear, mlp_of, norm, vocabulary
from converters.family import Family, Hot, Rule

BLOCK = "transformer.h.{i}."
QKV = Rows(("n_head", 3, "head_dim"), (1, 0, 2))
OLDER = (("n_embed", "hidden_size"), ("num_attention_heads", "n_head"))
WIDTH = (("hidden_size", "n_embd"),)
HEADS = (MIXER + "n_head", MIXER + "n_head_kv")
FREE = """pretraining_tp slow_but_exact offset_alibi skip_bias_add skip_bias_add_qkv masked_softmax_fusion
bias_dropout_fusion attention_softmax_in_fp32 gradient_checkpointing apply_query_key_layer_scaling"""
CONFIG = ConfigTable(
    called="BLOOM",
    entries=(
        *model("bloom", "BloomForCausalLM", "BloomModel", tied=True, bos=1, eos=2, alibi=True),
        *block("sequential", NORMED),
        Field("hidden_size", ("n_embd",), POSITIVE_INT, aliases=("n_embed",)),
        Field("n_layer", ("n_layer",), POSITIVE_INT, aliases=("num_hidden_layers",)),
        Field(
            "n_head",
            HEADS,
            POSITIVE_INT,
            aliases=("num_attention_heads",),
            also=("n_head", "n_head_kv"),
            unwritten=HEADS[:1],
        ),
        Renamed(even_heads("hidden_size", "n_head", rotating=False), OLDER),
        Renamed(Implied((MLP + "n_inner",), WIDTH, lambda width: 4 * width, "4 hidden_size", ("n_inner",)), OLDER),
        Field("seq_length", ("n_positions",), POSITIVE_INT, 2048),  # of training: distances have no end
        *biases(True, True),
        *PLAIN_ATTENTION,
        *NO_ROTARY,
        PLAIN_MLP,
        LAYER_NORM,
        ATTENTION_DROPOUT,
        eps("layer_norm_epsilon", 1e-5),
        Field("hidden_dropout", ("resid_pdrop",), FRACTION, 0.0),
        Ours("embd_pdrop", (0.0,)),
        Ours(MLP + "act_fn", ("gelu_bloom",)),
        Written("activation_function", "gelu_bloom"),
        Ours(ALIBI_FORMULA, ("bloom",)),
        Theirs(
            "apply_residual_connection_post_layernorm",
            (False,),
            "a MixFormer adds what a block got, not its norm",
            written=False,
        ),
    ),
    free=frozenset(FREE.split()),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a BLOOM, by our resolved config."""
    return [
        *norm("transformer.word_embeddings_layernorm", "layers.0.ln", ours),
        *norm(BLOCK + "input_layernorm", "layers.{b}.ln_1", ours),
        *norm(BLOCK + "post_attention_layernorm", "layers.{b}.ln_2", ours),
        *linear([BLOCK + "self_attention.query_key_value"], "attn.Wqkv", True, QKV),
        *linear([BLOCK + "self_attention.dense"], "attn.out_proj", True),
        *linear([BLOCK + "mlp.dense_h_to_4h"], f"{mlp_of(ours)}.fc1", True),
        *linear([BLOCK + "mlp.dense_4h_to_h"], f"{mlp_of(ours)}.fc2", True),
        *norm("transformer.ln_f", "layers.{h}.ln", ours),
        *vocabulary(ours, "transformer.word_embeddings.weight", "lm_head"),
    ]


FAMILY = Family(
    name="bloom",
    title="BLOOM and BLOOMZ",
    model_types=("bloom",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="transformer.",
    head="lm_head.weight",
    embedding="transformer.word_embeddings.weight",
    tied=True,
    expresses="MHA with any number of heads; ALiBi; a norm behind the embedding; tied or untied",
    hot=Hot(
        "BloomConfig",
        {"vocab_size": 331, "hidden_size": 72, "n_layer": 3, "n_head": 12, "tie_word_embeddings": False},
        {"n_head": (1, 3, 6, 9, 24), "hidden_size": (72, 144), "hidden_dropout": (0.0, 0.1)},
    ),
)
