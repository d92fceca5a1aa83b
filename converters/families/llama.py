"""LLaMA: what differs from a sequential MixFormer with GLU and RMS norms, and nothing else does.

Source: transformers 5.23 `models/llama` (`LlamaConfig`, `LlamaForCausalLM`). q, k and v are one matrix in ours; in the
GLU, ours has `up` before `gate`. Both sides use half-split rotary embeddings, so no row changes its place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.activations import ACTIVATIONS
from converters.algebra import Move, Then
from converters.buffers import Table
from converters.config_table import ConfigTable
from converters.family import SAME, Family, Rule
from converters.fields import (
    BOOL,
    DTYPE,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE_INT,
    TOKEN,
    TOKENS,
    Choice,
    Field,
    Ours,
    Theirs,
    Written,
)
from converters.heads import head_of
from converters.layout import BIASED_GLU, SOURCE_VOCAB, dims_of
from converters.moves import Concat, Pad, Tie
from converters.refusals import HEADLESS, REFUSED
from converters.rope import Rope
from converters.rotary import inv_freq

MIXER, NORM, MLP, HEAD = "architecture.mixer.", "architecture.norm.", "architecture.mlp.", "architecture.head."
LAYER = "model.layers.{i}."
QKV = tuple(f"{LAYER}self_attn.{name}_proj" for name in "qkv")
UP_GATE = tuple(f"{LAYER}mlp.{name}_proj" for name in ("up", "gate"))
EMBEDDING, HEAD_KEY = "model.embed_tokens.weight", "lm_head.weight"
VOCAB = Pad(SOURCE_VOCAB, "vocab_size")


def _head_dim(theirs: Mapping[str, Any]) -> Any:
    return theirs["hidden_size"] // theirs["num_attention_heads"]


CONFIG = ConfigTable(
    entries=(
        Theirs("model_type", ("llama",)),
        Theirs("architectures", (["LlamaForCausalLM"], ["LlamaModel"], None), HEADLESS),
        Written("pad_vocab_size_multiple", 1),
        Ours("architecture.block_cls", ("sequential",)),
        Ours("embd_layer", ("default",)),
        Ours("embd_pdrop", (0.0,)),
        Ours("resid_pdrop", (0.0,)),
        Ours(NORM + "norm_cls", ("rms", "flash_rms")),
        Ours(MIXER + "mixer_cls", ("mha",)),
        Ours(MIXER + "window_size", (None, [-1, -1], "(-1, -1)")),
        Ours(MIXER + "causal", (True,), written=False),
        Ours(MIXER + "use_alibi", (False,), written=False),
        Ours(MIXER + "softmax_scale", (None,), written=False),
        Ours(MIXER + "qk_norm", (False,), written=False),
        Ours(MIXER + "rotary_scale_base", (None,), written=False),
        Ours(MIXER + "rope_scaling", (None,), written=False),
        Choice("mlp_bias", MLP + "mlp_cls", ((False, "glu"), (True, BIASED_GLU))),
        Ours(HEAD + "head_cls", ("causal_lm",)),
        Ours(HEAD + "use_bias", (False,)),
        Field("vocab_size", (SOURCE_VOCAB,), POSITIVE_INT, also=("vocab_size",), unwritten=(SOURCE_VOCAB,)),
        Field("hidden_size", ("n_embd",), POSITIVE_INT),
        Field("num_hidden_layers", ("n_layer",), POSITIVE_INT),
        Field(
            "num_attention_heads", (MIXER + "n_head",), POSITIVE_INT, also=("n_head",), unwritten=(MIXER + "n_head",)
        ),
        Field(
            "num_key_value_heads",
            (MIXER + "n_head_kv",),
            POSITIVE_INT,
            lambda theirs: theirs["num_attention_heads"],
            none=True,
            also=("n_head_kv",),
        ),
        Field(
            "head_dim",
            (MIXER + "head_dim", MIXER + "rotary_dim"),
            POSITIVE_INT,
            _head_dim,
            none=True,
            also=("rotary_dim",),
        ),
        Field("intermediate_size", (MLP + "n_inner",), POSITIVE_INT, also=("n_inner",)),
        Field("hidden_act", (MLP + "act_fn",), ACTIVATIONS, "silu", also=("activation_function",)),
        Field("max_position_embeddings", ("n_positions",), POSITIVE_INT, 2048),
        Field("rms_norm_eps", (NORM + "eps",), NOT_NEGATIVE, 1e-6, also=("layer_norm_epsilon",)),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        Field("attention_dropout", (MIXER + "dropout",), FRACTION, 0.0),
        Field("tie_word_embeddings", ("tie_word_embeddings",), BOOL, False),
        Field("initializer_range", ("initializer_range",), NOT_NEGATIVE, 0.02),
        Field("use_cache", ("use_cache",), BOOL, True),
        Field("bos_token_id", ("bos_token_id",), TOKEN, 1),
        Field("eos_token_id", ("eos_token_id",), TOKENS, 2),
        Field("pad_token_id", ("pad_token_id",), TOKEN, None),
        Field("dtype", ("dtype",), DTYPE, None, aliases=("torch_dtype",)),
        Rope(10000.0),
        *REFUSED,
    ),
    free=frozenset({"pretraining_tp"}),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a LLaMA, by our resolved config."""
    found = [
        Rule((LAYER + "input_layernorm.weight",), ("layers.{b}.ln_1.weight",)),
        Rule((LAYER + "post_attention_layernorm.weight",), ("layers.{b}.ln_2.weight",)),
        *_linear(QKV, "attn.Wqkv", ours[MIXER + "bias"], Concat(("q_rows", "kv_rows", "kv_rows"))),
        *_linear((LAYER + "self_attn.o_proj",), "attn.out_proj", ours[MIXER + "out_bias"]),
        *_linear(UP_GATE, "mlp.fc1", ours[MLP + "mlp_cls"] == BIASED_GLU, Concat(("n_inner", "n_inner"))),
        *_linear((LAYER + "mlp.down_proj",), "mlp.fc2", ours[MLP + "mlp_cls"] == BIASED_GLU),
        Rule(("model.norm.weight",), ("layers.{h}.ln.weight",)),
    ]
    if head_of(ours).kind == "redundant":
        return [*found, Rule((EMBEDDING, HEAD_KEY), ("layers.0.wte.weight",), Then((Tie(), VOCAB)))]
    if not ours["tie_word_embeddings"]:
        found.append(Rule((HEAD_KEY,), ("layers.{h}.linear.weight",), VOCAB))
    return [*found, Rule((EMBEDDING,), ("layers.0.wte.weight",), VOCAB)]


def _linear(theirs: tuple[str, ...], ours: str, bias: bool, move: Move = SAME) -> list[Rule]:
    """A matrix and, if it has one, its bias: what holds for rows holds for both."""
    names = ("weight", "bias") if bias else ("weight",)
    return [Rule(tuple(f"{key}.{name}" for key in theirs), (f"layers.{{b}}.{ours}.{name}",), move) for name in names]


FAMILY = Family(
    name="llama",
    title="LLaMA 1-3 and everything of its shape (SmolLM2, TinyLlama, Yi, ...)",
    model_types=("llama",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    base="model.",
    head=HEAD_KEY,
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="MHA, GQA, MQA; any head_dim, activation and rope type; biases; tied or untied; any dtype",
)
