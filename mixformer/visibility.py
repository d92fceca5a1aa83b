"""Which key a query may see: causality, a window, padding and sample boundaries, said once for every attention backend.

Alignment is bottom-right: without a cache of fixed size the last query stands at the last key, so that decoding a chunk
onto a cache masks like one pass over the whole sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Window = tuple[int, int]
NO_WINDOW: Window = (-1, -1)


@dataclass(frozen=True)
class Visibility:
    """What limits the sight of a query.

    Attributes:
        causal: A query sees no later key; the right side of the window then counts as 0.
        window: (left, right), inclusive: query i sees keys i - left ... i + right; -1 means no limit on that side.
        segments: (B, Sk) integers or None: 0 is padding, any other number a sample; a query sees its own sample only.
        query_start: Index of the first query among the keys, an int or a 0-dim tensor; None for Sk - Sq.
    """

    causal: bool = True
    window: Window = NO_WINDOW
    segments: Tensor | None = None
    query_start: int | Tensor | None = None

    def start(self, query_length: int, key_length: int) -> int | Tensor:
        """Index of the first query among the keys."""
        return key_length - query_length if self.query_start is None else self.query_start

    def effective_window(self, key_length: int) -> Window:
        """The window with -1 wherever it limits nothing among `key_length` keys, and right = 0 if causal."""
        left, right = self.window
        right = 0 if self.causal else right
        return (-1 if left >= key_length - 1 else left, -1 if right >= key_length - 1 and not self.causal else right)

    def needs_mask(self, query_length: int, key_length: int) -> bool:
        """Whether something other than plain (`Sq == Sk`) causality hides a key."""
        if self.segments is not None:
            return True
        left, right = self.effective_window(key_length)
        if left != -1 or (right != -1 and not self.causal):
            return True
        if not self.causal:
            return False
        start = self.start(query_length, key_length)
        if isinstance(start, Tensor) or start != key_length - query_length:
            return True
        return query_length not in (1, key_length)

    def distance(self, query_length: int, key_length: int, device: torch.device) -> Tensor:
        """How many places each key stands before each query, (1 or B, Sq, Sk), negative for later keys.

        Padding does not count as a place, so that a padded row equals the same row without padding.
        """
        query_index = torch.arange(query_length, device=device) + self.start(query_length, key_length)  # (Sq,)
        if self.segments is None:
            key_index = torch.arange(key_length, device=device)
            return (query_index[:, None] - key_index[None, :])[None]  # (1, Sq, Sk)
        place = (self.segments != 0).long().cumsum(-1)  # (B, Sk)
        return place[:, query_index][:, :, None] - place[:, None, :]  # (B, Sq, Sk)

    def mask(self, query_length: int, key_length: int, device: torch.device) -> Tensor:
        """True where a query sees a key, (1 or B, 1, Sq, Sk)."""
        distance = self.distance(query_length, key_length, device)
        left, right = self.effective_window(key_length)
        visible = torch.ones_like(distance, dtype=torch.bool)
        if right != -1:
            visible = visible & (distance >= -right)
        if left != -1:
            visible = visible & (distance <= left)
        if self.segments is not None:
            query_index = torch.arange(query_length, device=device) + self.start(query_length, key_length)
            of_query = self.segments[:, query_index][:, :, None]  # (B, Sq, 1)
            of_key = self.segments[:, None, :]  # (B, 1, Sk)
            visible = visible & (of_query == of_key) & (of_key != 0)
        return visible[:, None]
