"""GPT-2 in a GGUF file of llama.cpp: matrices as (outputs, inputs), so nothing is transposed.

Source: names and metadata as in the `gguf` package 0.19 (`constants.py`); ggml's GELU is the one by tanh.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.entries import Field, Ours, Written
from converters.config.kinds import POSITIVE_INT
from converters.config.layout import dims_of
from converters.config.table import ConfigTable
from converters.families.shared.dialect_fields import TIE, TrainingOnly, dialect, even_heads, gpt2_block, sizes
from converters.families.shared.gguf_fields import gguf_tokens
from converters.families.shared.transformers_fields import MIXER, MLP, eps
from converters.families.shared.transformers_rules import linear, mlp_of, norm, vocabulary
from converters.family import Family, Rule

BLOCK, WIDTH, HEADS = "blk.{i}.", "gpt2.embedding_length", "gpt2.attention.head_count"

CONFIG = ConfigTable(
    entries=(
        *dialect("gpt2-gguf", "gpt2.vocab_size"),
        TIE,
        *gpt2_block(bias=True),
        *sizes(WIDTH, "gpt2.block_count", HEADS, "gpt2.context_length", 1024),
        even_heads(WIDTH, HEADS, rotating=False),
        Field("gpt2.feed_forward_length", (MLP + "n_inner",), POSITIVE_INT, also=("n_inner",)),
        Ours(MLP + "act_fn", ("gelu_new",)),
        Written("activation_function", "gelu_new"),
        eps("gpt2.attention.layer_norm_epsilon", 1e-5),
        TrainingOnly(("embd_pdrop", "resid_pdrop", MIXER + "dropout")),
        *gguf_tokens(),
    )
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a GPT-2 in GGUF, by our resolved config."""
    return [
        Rule(("position_embd.weight",), ("layers.0.wpe.weight",)),
        *norm(BLOCK + "attn_norm", "layers.{b}.ln_1", ours),
        *norm(BLOCK + "ffn_norm", "layers.{b}.ln_2", ours),
        *linear([BLOCK + "attn_qkv"], "attn.Wqkv", True),
        *linear([BLOCK + "attn_output"], "attn.out_proj", True),
        *linear([BLOCK + "ffn_up"], f"{mlp_of(ours)}.fc1", True),
        *linear([BLOCK + "ffn_down"], f"{mlp_of(ours)}.fc2", True),
        *norm("output_norm", "layers.{h}.ln", ours),
        *vocabulary(ours, "token_embd.weight", "output"),
    ]


FAMILY = Family(
    name="gpt2-gguf",
    title="GPT-2 in a GGUF file of llama.cpp",
    model_types=("gpt2-gguf",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    head="output.weight",
    expresses="MHA; any n_inner; GELU by tanh; tied or untied; quantised with --dequantize",
    dialect_of="gpt2",
)
