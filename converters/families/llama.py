"""LLaMA: what differs from a sequential MixFormer with GLU and RMS norms, and nothing else does.

Source: transformers 5.23 `models/llama` (`LlamaConfig`, `LlamaForCausalLM`). q, k and v are one matrix in ours; in the
GLU, ours has `up` before `gate`. Both sides use half-split rotary embeddings, so no row changes its place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.activations import ACTIVATIONS
from converters.config_table import ConfigTable
from converters.family import Family, Rule
from converters.fields import (
    BOOL,
    DTYPE,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE_INT,
    TOKEN,
    TOKENS,
    Field,
    Ours,
    Theirs,
    Written,
)
from converters.layout import dims_of
from converters.moves import Concat
from converters.rope import Rope

MIXER, NORM, MLP, HEAD = "architecture.mixer.", "architecture.norm.", "architecture.mlp.", "architecture.head."
LAYER = "model.layers.{i}."
QKV = tuple(f"{LAYER}self_attn.{name}_proj" for name in "qkv")


def _head_dim(theirs: Mapping[str, Any]) -> Any:
    return theirs["hidden_size"] // theirs["num_attention_heads"]


CONFIG = ConfigTable(
    entries=(
        Theirs("model_type", ("llama",)),
        Theirs("architectures", (["LlamaForCausalLM"], None), "only causal language models are"),
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
        Ours(MLP + "mlp_cls", ("glu",)),
        Ours(HEAD + "head_cls", ("causal_lm",)),
        Ours(HEAD + "use_bias", (False,)),
        Field("vocab_size", ("vocab_size",), POSITIVE_INT),
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
        Theirs("mlp_bias", (False,)),
        Theirs("rope_interleaved", (False,), written=False),
    ),
    free=frozenset({"pretraining_tp"}),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a LLaMA, by our resolved config."""
    found = [
        Rule(("model.embed_tokens.weight",), ("layers.0.wte.weight",)),
        Rule((LAYER + "input_layernorm.weight",), ("layers.{b}.ln_1.weight",)),
        Rule((LAYER + "post_attention_layernorm.weight",), ("layers.{b}.ln_2.weight",)),
        Rule(
            tuple(f"{name}.weight" for name in QKV),
            ("layers.{b}.attn.Wqkv.weight",),
            Concat(("q_rows", "kv_rows", "kv_rows")),
        ),
        Rule((LAYER + "self_attn.o_proj.weight",), ("layers.{b}.attn.out_proj.weight",)),
        Rule(
            (LAYER + "mlp.up_proj.weight", LAYER + "mlp.gate_proj.weight"),
            ("layers.{b}.mlp.fc1.weight",),
            Concat(("n_inner", "n_inner")),
        ),
        Rule((LAYER + "mlp.down_proj.weight",), ("layers.{b}.mlp.fc2.weight",)),
        Rule(("model.norm.weight",), ("layers.{h}.ln.weight",)),
    ]
    if ours[MIXER + "bias"]:
        biases = tuple(f"{name}.bias" for name in QKV)
        found.append(Rule(biases, ("layers.{b}.attn.Wqkv.bias",), Concat(("q_rows", "kv_rows", "kv_rows"))))
        found.append(Rule((LAYER + "self_attn.o_proj.bias",), ("layers.{b}.attn.out_proj.bias",)))
    if not ours["tie_word_embeddings"]:
        found.append(Rule(("lm_head.weight",), ("layers.{h}.linear.weight",)))
    return found


FAMILY = Family(
    name="llama",
    title="LLaMA 1-3 and everything of its shape (SmolLM2, TinyLlama, Yi, ...)",
    model_types=("llama",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    expresses="MHA, GQA, MQA; any head_dim; tied or untied; attention bias; default rope; fp32, fp16, bf16",
)
