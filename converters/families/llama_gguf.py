"""LLaMA in a GGUF file of llama.cpp, with interleaved rotary pairs, as Meta has them.

Source: names and metadata as in the `gguf` package 0.19 (`constants.py`), rows as transformers 5.23 reads them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.views import Each, Then
from converters.config.entries import Field, Theirs
from converters.config.kinds import BOOL, POSITIVE_INT
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.dialect_fields import TIE, dialect, llama_block, sizes
from converters.families.shared.gguf_fields import GgufRope, frequency_factors, gguf_tokens
from converters.families.shared.inv_freq import halves_of
from converters.families.shared.transformers_fields import MIXER, MLP, eps
from converters.families.shared.transformers_rules import QKV, UP_GATE, linear, norm, vocabulary
from converters.family import SAME, Family, Rule
from converters.plan.known_buffers import Table

LLAMA, HEADS = "llama.", "llama.attention.head_count"
WIDTH, BLOCK = "llama.embedding_length", "blk.{i}."
INTERLEAVED_QKV = Then((Each((halves_of("n_head"), halves_of("n_head_kv"), SAME)), QKV))


def _head_dim(theirs: Mapping[str, Any]) -> Any:
    return theirs[WIDTH] // theirs[HEADS]


CONFIG = ConfigTable(
    entries=(
        *dialect("llama-gguf", "llama.vocab_size"),
        TIE,
        *llama_block(),
        *sizes(WIDTH, "llama.block_count", HEADS, "llama.context_length", 2048, kv="llama.attention.head_count_kv"),
        Field(
            "llama.attention.key_length",
            (MIXER + "head_dim", MIXER + "rotary_dim"),
            POSITIVE_INT,
            _head_dim,
            aliases=("llama.attention.value_length", "llama.rope.dimension_count"),
            also=("rotary_dim",),
        ),
        Field("llama.feed_forward_length", (MLP + "n_inner",), POSITIVE_INT, also=("n_inner",)),
        Field("attention_bias", (MIXER + "bias", MIXER + "out_bias"), BOOL, False),
        eps("llama.attention.layer_norm_rms_epsilon", 1e-5),
        GgufRope(),
        *gguf_tokens(),
        Theirs("llama.tensor_data_layout", ("Meta AI original pth",), written=False),
        Theirs("llama.expert_count", (0,), "a mixture of experts has no MixFormer counterpart", written=False),
        Theirs("llama.expert_used_count", (0,), "a mixture of experts has no MixFormer counterpart", written=False),
    )
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a LLaMA in GGUF, by our resolved config."""
    bias = ours[MIXER + "bias"]
    return [
        *norm(BLOCK + "attn_norm", "layers.{b}.ln_1", ours),
        *norm(BLOCK + "ffn_norm", "layers.{b}.ln_2", ours),
        *linear([f"{BLOCK}attn_{name}" for name in "qkv"], "attn.Wqkv", bias, INTERLEAVED_QKV),
        *linear([BLOCK + "attn_output"], "attn.out_proj", bias),
        *linear([BLOCK + "ffn_up", BLOCK + "ffn_gate"], "mlp.fc1", False, UP_GATE),
        *linear([BLOCK + "ffn_down"], "mlp.fc2", False),
        *norm("output_norm", "layers.{h}.ln", ours),
        *vocabulary(ours, "token_embd.weight", "output"),
    ]


FAMILY = Family(
    name="llama-gguf",
    title="LLaMA in a GGUF file of llama.cpp",
    model_types=("llama-gguf",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    head="output.weight",
    buffers=(Table("rope_freqs.weight", frequency_factors),),
    expresses="MHA, GQA; any head_dim; biases; rope plain, linear, yarn or of LLaMA 3.1; quantised with --dequantize",
    dialect_of="llama",
)
