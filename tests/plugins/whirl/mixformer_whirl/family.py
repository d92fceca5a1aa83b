"""Whirl: made up to show how a family brings a block of its own.

Its checkpoints hold `embedding`, `gates.{i}.weight` and `.bias`, `norm.weight` and `.bias`, and `head`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.dims import Dims
from converters.config.entries import Field, Ours, Theirs, Written
from converters.config.kinds import DTYPE, NOT_NEGATIVE, POSITIVE_INT, TOKENS
from converters.config.table import ConfigTable
from converters.families.shared.transformers_fields import HEAD, LAYER_NORM, MIXER, NORM
from converters.family import Family, Hot, Rule

BLOCK = "mixformer-whirl/whirl"  # the package, so that a config says what it needs
# What a resolved MixFormer says of attention and MLP, of which this block has neither.
UNUSED = tuple(
    MIXER + name
    for name in """mixer_cls n_head n_head_kv head_dim causal use_alibi softmax_scale window_size dropout bias out_bias
    qk_norm rotary_dim rotary_base rotary_scale_base rope_scaling softcap scale_attn_by_inverse_layer_idx""".split()
)
CONFIG = ConfigTable(
    entries=(
        Theirs("model_type", ("whirl",)),
        Theirs("architectures", (["WhirlForCausalLM"], None)),
        Written("pad_vocab_size_multiple", 1),
        Ours("architecture.block_cls", (BLOCK,)),
        Ours("embd_layer", ("default",)),
        Ours(HEAD + "head_cls", ("causal_lm",)),
        Ours(HEAD + "use_bias", (False,)),
        LAYER_NORM,
        Field("vocab_size", ("vocab_size",), POSITIVE_INT),
        Field("width", ("n_embd",), POSITIVE_INT),
        Field("depth", ("n_layer",), POSITIVE_INT),
        Field("eps", (NORM + "eps",), NOT_NEGATIVE, 1e-5, also=("layer_norm_epsilon",)),
        Field("dtype", ("dtype",), DTYPE, None),
        Theirs("tie_word_embeddings", (False,), "a Whirl has two matrices", written=False),
        Ours("tie_word_embeddings", (False,)),
        *(Field(f"{name}_token_id", (f"{name}_token_id",), TOKENS, None) for name in ("bos", "eos", "pad")),
    ),
    unread=frozenset(
        {
            *UNUSED,
            "architecture.mlp.mlp_cls",
            "architecture.mlp.act_fn",
            "architecture.mlp.n_inner",
            *"""n_positions n_head n_head_kv n_inner rotary_dim activation_function embd_pdrop resid_pdrop
            initializer_range use_cache source_vocab_size""".split(),
        }
    ),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a Whirl."""
    return [
        Rule(("embedding",), ("layers.0.wte.weight",)),
        Rule(("gates.{i}.weight",), ("layers.{b}.gate.weight",)),
        Rule(("gates.{i}.bias",), ("layers.{b}.gate.bias",)),
        Rule(("norm.weight",), ("layers.{h}.ln.weight",)),
        Rule(("norm.bias",), ("layers.{h}.ln.bias",)),
        Rule(("head",), ("layers.{h}.linear.weight",)),
    ]


def dims(ours: Mapping[str, Any]) -> Dims:
    """Its sizes."""
    return Dims({name: ours[name] for name in ("vocab_size", "n_embd", "n_layer")})


def tensors(ours: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of ours."""
    sizes = dims(ours)
    rows, width, head = sizes["vocab_size"], sizes["n_embd"], f"layers.{sizes['n_layer'] + 1}"
    gates = {f"layers.{b}.gate.weight": (width, width) for b in range(1, sizes["n_layer"] + 1)}
    biases = {f"layers.{b}.gate.bias": (width,) for b in range(1, sizes["n_layer"] + 1)}
    norm = {f"{head}.ln.weight": (width,), f"{head}.ln.bias": (width,)}
    return {"layers.0.wte.weight": (rows, width), **gates, **biases, **norm, f"{head}.linear.weight": (rows, width)}


FAMILY = Family(
    name="whirl",
    title="Whirl, an example",
    model_types=("whirl",),
    config=CONFIG,
    rules=rules,
    dims=dims,
    tensors=tensors,
    head="head",
    expresses="everything a Whirl has",
    hot=Hot(
        "mixformer_whirl.reference.WhirlConfig",
        sizes={"vocab_size": 331, "width": 48, "depth": 3, "eps": 1e-3},
        draws={"width": (30, 64), "depth": (1, 2, 4), "eps": (1e-6, 1e-2), "tie_word_embeddings": ()},
    ),
)
