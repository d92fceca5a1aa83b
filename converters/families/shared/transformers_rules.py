"""Groups of rules that several families of transformers share."""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.moves import Concat, Pad, Split, Tie
from converters.algebra.views import Move, Reorder, Then
from converters.config.layout import BLOCK_MIXER, SOURCE_VOCAB, has_norm_bias
from converters.families.shared.transformers_fields import MIXER, MLP
from converters.family import SAME, Rule
from converters.plan.heads import head_of
from converters.plan.vocabulary import is_padded_low

LAYER = "model.layers.{i}."
VOCAB, LOW_VOCAB = Pad(SOURCE_VOCAB, "vocab_size"), Pad(SOURCE_VOCAB, "vocab_size", low=True)
QKV = Concat(("q_rows", "kv_rows", "kv_rows"))
UP_GATE = Concat(("n_inner", "n_inner"))
GATE_UP = Then((Split(("n_inner", "n_inner")), Reorder((1, 0)), Concat(("n_inner", "n_inner"))))


def linear(theirs: Sequence[str], ours: str, bias: bool, move: Move = SAME) -> list[Rule]:
    """Rules for a matrix of a block and, if it has one, its bias, whose rows have the same order."""
    names = ("weight", "bias") if bias else ("weight",)
    return [Rule(tuple(f"{key}.{name}" for key in theirs), (f"layers.{{b}}.{ours}.{name}",), move) for name in names]


def norm(theirs: str, ours: str, resolved: Mapping[str, Any]) -> list[Rule]:
    """A norm's weight and, if its kind has one, its bias."""
    names = ("weight", "bias") if has_norm_bias(resolved) else ("weight",)
    return [Rule((f"{theirs}.{name}",), (f"{ours}.{name}",)) for name in names]


def mlp_of(resolved: Mapping[str, Any]) -> str:
    """The prefix of an MLP's matrices in a block of ours; a fused MLP has one more module."""
    return "mlp.mlp" if resolved[MLP + "mlp_cls"] == "fused_mlp" else "mlp"


def vocabulary(resolved: Mapping[str, Any], embedding: str, head: str, *, bias: bool = False) -> list[Rule]:
    """Embedding and head, tied or not, whose rows ours may pad; `bias`: the head has one."""
    rows = LOW_VOCAB if is_padded_low(resolved) else VOCAB
    rules = [Rule((f"{head}.bias",), ("layers.{h}.linear.bias",), rows)] if bias else []
    weight = f"{head}.weight"
    if head_of(resolved).kind == "redundant":
        return [*rules, Rule((embedding, weight), ("layers.0.wte.weight",), Then((Tie(), VOCAB)))]
    if not resolved["tie_word_embeddings"]:
        rules.append(Rule((weight,), ("layers.{h}.linear.weight",), VOCAB))
    return [*rules, Rule((embedding,), ("layers.0.wte.weight",), VOCAB)]


def llama_attention(
    resolved: Mapping[str, Any], out: str = "o_proj", block: str = "attn", qkv: Move = QKV
) -> list[Rule]:
    """Separate q, k and v, and the output, under LLaMA's names; `qkv`: the move of the three, of their biases too."""
    names = [f"{LAYER}self_attn.{name}_proj" for name in "qkv"]
    return [
        *linear(names, f"{block}.Wqkv", resolved[MIXER + "bias"], qkv),
        *linear([f"{LAYER}self_attn.{out}"], f"{block}.out_proj", resolved[MIXER + "out_bias"]),
    ]


def llama_like(resolved: Mapping[str, Any], *, mlp_bias: bool = False, qkv: Move = QKV) -> list[Rule]:
    """A sequential decoder with RMS norms and a GLU, all of LLaMA's names; `qkv`: see `llama_attention`."""
    return [
        *norm(LAYER + "input_layernorm", "layers.{b}.ln_1", resolved),
        *norm(LAYER + "post_attention_layernorm", "layers.{b}.ln_2", resolved),
        *llama_body(resolved, mlp_bias=mlp_bias, qkv=qkv),
    ]


def llama_body(resolved: Mapping[str, Any], *, mlp_bias: bool = False, qkv: Move = QKV) -> list[Rule]:
    """The same without the norms of the blocks, which several families have in other places."""
    return [
        *llama_attention(resolved, qkv=qkv, block=BLOCK_MIXER.get(resolved["architecture.block_cls"], "attn")),
        *linear([f"{LAYER}mlp.{name}_proj" for name in ("up", "gate")], "mlp.fc1", mlp_bias, UP_GATE),
        *linear([LAYER + "mlp.down_proj"], "mlp.fc2", mlp_bias),
        *norm("model.norm", "layers.{h}.ln", resolved),
        *vocabulary(resolved, "model.embed_tokens.weight", "lm_head"),
    ]


def after_norms(resolved: Mapping[str, Any]) -> list[Rule]:
    """Norms after attention and after the MLP."""
    places = (("post_attention_layernorm", "after_1"), ("post_feedforward_layernorm", "after_2"))
    return [rule for theirs, ours in places for rule in norm(LAYER + theirs, f"layers.{{b}}.{ours}", resolved)]


def gemma_norms(resolved: Mapping[str, Any]) -> list[Rule]:
    """Norms before and after attention and MLP, by Gemma's names."""
    places = (("input_layernorm", "ln_1"), ("pre_feedforward_layernorm", "ln_2"))
    before = [rule for theirs, ours in places for rule in norm(LAYER + theirs, f"layers.{{b}}.{ours}", resolved)]
    return [*before, *after_norms(resolved)]


def qk_norms(resolved: Mapping[str, Any]) -> list[Rule]:
    """The norms of queries and keys under the names `q_norm` and `k_norm`."""
    names = [(f"{LAYER}self_attn.{name}", f"layers.{{b}}.attn.{name}") for name in ("q_norm", "k_norm")]
    return [rule for theirs, ours in names for rule in norm(theirs, ours, resolved)]
