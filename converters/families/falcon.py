"""Falcon: attention and MLP side by side, few key-value heads, LayerNorms, rotary embeddings.

Source: transformers 5.23 `models/falcon`. Three generations: 7B and 1B with one norm and one key-value head (or one for
each head); the new decoder of 40B, 180B and Falcon 2, with two norms; and RW, whose biases of scores are rounded to
bfloat16, which is refused. The rows of `query_key_value` are group after group: its queries, its key, its value.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.dims import Dims
from converters.algebra.moves import Concat, Rows, Split
from converters.algebra.views import Each, Then
from converters.config.entries import Field, Ours, Theirs
from converters.config.kinds import FRACTION, POSITIVE_INT
from converters.config.layout import BLOCK_MIXER, TWO_NORMS, dims_of
from converters.config.table import ConfigTable
from converters.families.shared.activations import ACTIVATIONS
from converters.families.shared.decoders.one_for_all import BiasEverywhere
from converters.families.shared.dialect_fields import even_heads
from converters.families.shared.gpt_fields import PLAIN_ATTENTION, FalconDecoder
from converters.families.shared.rope import Rope
from converters.families.shared.transformers_fields import (
    ATTENTION_DROPOUT,
    LAYER_NORM,
    MIXER,
    MLP,
    block,
    eps,
    model,
    positions,
)
from converters.families.shared.transformers_rules import linear, mlp_of, norm, vocabulary
from converters.family import SAME, Family, Hot, Rule
from converters.small_models import PLAIN_SIZES, ropes

BLOCK, KIND = "transformer.h.{i}.", "architecture.block_cls"
HEADS, INNER = (MIXER + "n_head",), (MLP + "n_inner",)
THIRDS = ("q_rows", "kv_rows", "kv_rows")
GATHERED = Rows(("group", "n_head_kv", "head_dim"), (1, 0, 2))
GROUPS = Rows(("n_head_kv", "group_rows", "head_dim"), (1, 0, 2))
QKV = Then((GROUPS, Split(THIRDS), Each((GATHERED, SAME, SAME)), Concat(THIRDS)))
NORMS = {
    TWO_NORMS: (("ln_attn", "ln_1"), ("ln_mlp", "ln_2")),
    "parallel": (("input_layernorm", "ln"),),
    "sequential": (("input_layernorm", "ln_1"), ("post_attention_layernorm", "ln_2")),
}


CONFIG = ConfigTable(
    called="Falcon",
    entries=(
        *model("falcon", "FalconForCausalLM", "FalconModel", tied=True, bos=11, eos=11),
        *block("")[1:],
        Field("hidden_size", ("n_embd",), POSITIVE_INT, aliases=("n_embed",)),
        Field("num_hidden_layers", ("n_layer",), POSITIVE_INT),
        Field("num_attention_heads", HEADS, POSITIVE_INT, also=("n_head",), unwritten=HEADS),
        even_heads("hidden_size", "num_attention_heads", rotating=True),
        FalconDecoder(),
        positions(2048),
        *PLAIN_ATTENTION,
        LAYER_NORM,
        ATTENTION_DROPOUT,
        Rope(),
        BiasEverywhere(("bias",), False),
        eps("layer_norm_epsilon", 1e-5),
        Field("ffn_hidden_size", INNER, POSITIVE_INT, lambda t: 4 * t["hidden_size"], none=True, also=("n_inner",)),
        Field("activation", (MLP + "act_fn",), ACTIVATIONS, "gelu", also=("activation_function",)),
        Field("hidden_dropout", ("resid_pdrop",), FRACTION, 0.0),
        Ours("embd_pdrop", (0.0,)),
        Theirs("alibi", (False, None), "Falcon RW rounds these biases to bfloat16, which no MixFormer does"),
        Theirs("apply_residual_connection_post_layernorm", (False,), written=False),
    ),
)


def dims(ours: Mapping[str, Any]) -> Dims:
    """Our sizes, and query heads in a group, alone and with its key and value."""
    sizes = dims_of(ours)
    group = sizes["n_head"] // sizes["n_head_kv"]
    return sizes.with_size("group", group).with_size("group_rows", group + 2)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Falcon, by our resolved config."""
    bias, mixer = ours[MIXER + "bias"], BLOCK_MIXER.get(ours[KIND], "attn")
    return [
        *(rule for theirs, mine in NORMS[ours[KIND]] for rule in norm(BLOCK + theirs, f"layers.{{b}}.{mine}", ours)),
        *linear([BLOCK + "self_attention.query_key_value"], f"{mixer}.Wqkv", bias, QKV),
        *linear([BLOCK + "self_attention.dense"], f"{mixer}.out_proj", bias),
        *linear([BLOCK + "mlp.dense_h_to_4h"], f"{mlp_of(ours)}.fc1", bias),
        *linear([BLOCK + "mlp.dense_4h_to_h"], f"{mlp_of(ours)}.fc2", bias),
        *norm("transformer.ln_f", "layers.{h}.ln", ours),
        *vocabulary(ours, "transformer.word_embeddings.weight", "lm_head"),
    ]


FAMILY = Family(
    name="falcon",
    title="Falcon 7B, 40B, 180B and Falcon 2",
    model_types=("falcon",),
    config=CONFIG,
    rules=rules,
    dims=dims,
    base="transformer.",
    head="lm_head.weight",
    embedding="transformer.word_embeddings.weight",
    tied=True,
    expresses="MQA, GQA, MHA; parallel blocks with one norm or two, sequential ones; any rope type; tied or untied",
    hot=Hot(
        "FalconConfig",
        PLAIN_SIZES | {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 88},
        {"new_decoder_architecture": (True, False), "num_ln_in_parallel_attn": (None, 1), "multi_query": (True, False)}
        | {"num_kv_heads": (None, 1, 4), "parallel_attn": (True, True, False), "bias": (True, False)}
        | {"rope_parameters": ropes()},
        refuses={"decoders that do not run": "transformers cannot run such a decoder"},
    ),
)
