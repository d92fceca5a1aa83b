"""Rules for a LLaMA under Meta's names, whole or cut for model-parallel ranks; llama2.c has the same names.

Each rank has a prefix: the parts of rank 0 keep their names, those of rank 1 are `01.layers.0...`, and so on.
"""

from collections.abc import Mapping
from typing import Any

from converters.algebra.moves import Concat, Tie
from converters.algebra.views import Each, Move, Then
from converters.config.layout import SOURCE_VOCAB
from converters.families.shared.inv_freq import halves_of
from converters.families.shared.transformers_rules import QKV, UP_GATE, VOCAB
from converters.family import SAME, Rule

MOST_RANKS = 64


def prefix(rank: int) -> str:
    """The prefix of the keys of a rank."""
    return f"{rank:02d}." if rank else ""


def part(size: str, count: int) -> str:
    """The name of the size of one of `count` equal parts."""
    return size if count == 1 else f"{size} / {count}"


def cut_sizes(ours: Mapping[str, Any], by_rows: bool) -> list[str]:
    """Sizes that ranks share; `by_rows`: the embedding was cut along its rows, not its columns."""
    names = ["q_rows", "kv_rows", "n_inner"]
    names += [] if by_rows else ["n_embd"]
    return names if ours["tie_word_embeddings"] and not by_rows else [*names, SOURCE_VOCAB]


def meta_rules(ours: Mapping[str, Any], count: int = 1, by_rows: bool = False) -> list[Rule]:
    """The rules for `count` ranks; `by_rows`: the embedding was cut along its rows."""

    def keys(*names: str) -> tuple[str, ...]:
        return tuple(f"{prefix(rank)}{name}.weight" for name in names for rank in range(count))

    def layer(*names: str) -> tuple[str, ...]:
        return keys(*(f"layers.{{i}}.{name}" for name in names))

    def joined(size: str, axis: int = 0, then: Move = SAME) -> Move:
        return then if count == 1 else _both(Concat((part(size, count),) * count, axis), then)

    qkv = (joined("q_rows", 0, halves_of("n_head")), joined("kv_rows", 0, halves_of("n_head_kv")), joined("kv_rows"))
    inner = Each((joined("n_inner"), joined("n_inner")))
    embedding = joined(SOURCE_VOCAB, 0, VOCAB) if by_rows else joined("n_embd", 1, VOCAB)
    found = [
        Rule(layer("attention_norm"), ("layers.{b}.ln_1.weight",), _copies(count)),
        Rule(layer("ffn_norm"), ("layers.{b}.ln_2.weight",), _copies(count)),
        Rule(layer(*(f"attention.w{n}" for n in "qkv")), ("layers.{b}.attn.Wqkv.weight",), Then((Each(qkv), QKV))),
        Rule(layer("attention.wo"), ("layers.{b}.attn.out_proj.weight",), joined("q_rows", 1)),
        Rule(layer("feed_forward.w3", "feed_forward.w1"), ("layers.{b}.mlp.fc1.weight",), Then((inner, UP_GATE))),
        Rule(layer("feed_forward.w2"), ("layers.{b}.mlp.fc2.weight",), joined("n_inner", 1)),
        Rule(keys("norm"), ("layers.{h}.ln.weight",), _copies(count)),
        Rule(keys("tok_embeddings"), ("layers.0.wte.weight",), embedding),
    ]
    if not ours["tie_word_embeddings"]:
        found.append(Rule(keys("output"), ("layers.{h}.linear.weight",), joined(SOURCE_VOCAB, 0, VOCAB)))
    return found


def _both(first: Move, then: Move) -> Move:
    return first if then == SAME else Then((first, then))


def _copies(count: int) -> Move:
    """The move that makes equal tensors one."""
    return SAME if count == 1 else Tie() if count == 2 else Then((Each((_copies(count - 1), SAME)), Tie()))
