"""Orders in which a wrong mapping leaves rows: rotary pairs, tiled heads, rolled or reversed rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Index = np.ndarray[Any, np.dtype[np.int64]]
HEADED = ("q", "k", "v", "qkv", "q_bias", "k_bias", "v_bias", "q_norm", "k_norm", "qk_scale")
"""Roles whose rows are heads one after the other."""
TURNED = ("q", "k", "q_bias", "k_bias", "q_norm", "k_norm", "qk_scale")
"""Roles whose rows are turned by rotary embeddings."""


@dataclass(frozen=True)
class Order:
    """Row i lies where row ``index[i]`` should be. ``said`` and ``undo`` are the words for it."""

    said: str
    undo: str
    index: Index

    @property
    def back(self) -> Index:
        """Where the row that belongs to each place lies."""
        return np.argsort(self.index, kind="stable")


def interleaved(rows: int, head: int, turned: int) -> Index:
    """Half-split pairs put into interleaved order, in the first ``turned`` rows of every head of ``head`` rows."""
    one = np.arange(head)
    one[:turned] = np.arange(turned).reshape(2, turned // 2).T.reshape(-1)
    return (np.arange(0, rows, head)[:, None] + one[None, :]).reshape(-1)


def rotary_orders(rows: int, head: int, turned: int) -> Iterator[Order]:
    """Both mistakes of a rotary permutation: it is missing, or it was done twice."""
    if head <= 0 or rows % head or turned < 4 or turned % 2 or turned > head:
        return
    index = interleaved(rows, head, turned)
    yield Order("in interleaved rotary order", "the half-split order", index)
    twice = Order("", "", index).back
    yield Order("put into half-split order twice", "the reverse of that order", twice)


def halves_exchanged(rows: int, blocks: int) -> Order:
    """The second half of every block before the first."""
    index = np.arange(rows).reshape(blocks, 2, -1)[:, ::-1].reshape(-1)
    return Order("ordered with gate and up of every expert exchanged", "the swap", index)


def tiled(n_head: int, n_head_kv: int) -> Index:
    """The head at each place where heads of one group are ``n_head_kv`` apart."""
    return np.arange(n_head).reshape(n_head // n_head_kv, n_head_kv).T.reshape(-1)


def head_orders(n_head: int, n_head_kv: int, head: int) -> Iterator[Order]:
    """Orders of whole query heads, where several of them share a key-value head."""
    if not 1 < n_head_kv < n_head or n_head % n_head_kv:
        return
    heads = tiled(n_head, n_head_kv)
    rows = (heads[:, None] * head + np.arange(head)[None, :]).reshape(-1)
    yield Order("in the order of tiled key-value heads", "the order of repeated heads", rows)
    back = Order("", "", rows).back
    yield Order("in the order of repeated heads, twice", "the order of tiled heads", back)


def rolled(rows: int, by: int) -> Order:
    """All rows ``by`` places too far down."""
    said = f"rolled by {by if by <= rows // 2 else by - rows}"
    return Order(said, "the roll back", (np.arange(rows) - by) % rows)


def reverse(rows: int) -> Order:
    """The last row first."""
    return Order("in reverse order", "the reversal", np.arange(rows)[::-1].copy())


def as_it_is(rows: int) -> Order:
    """No other order."""
    return Order("", "", np.arange(rows))
