"""Queries that grow with their position, as in Llama-4 and Ministral-3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from mixformer.errors import invalid, unknown_keywords
from mixformer.forward_context import ForwardContext


@dataclass(frozen=True)
class QueryGrowth:
    """Queries at position t are multiplied by 1 + beta * ln(1 + floor(t / length)).

    The factor is made in torch's default dtype, float32, in which checkpoints were trained with it.
    """

    beta: float
    length: int

    def __call__(self, q: Tensor, context: ForwardContext) -> Tensor:
        """q (B, S, H, h), times its factors."""
        key = ("query growth", self, q.dtype, q.device)
        return q * context.once(key, lambda: self.factors(context.position_ids).to(q.dtype))

    def factors(self, position_ids: Tensor) -> Tensor:
        """(1 or B, S, 1, 1)."""
        return (1 + self.beta * torch.log(1 + torch.floor(position_ids / self.length)))[..., None, None]


def query_growth_of(entry: Mapping[str, Any] | None, path: str) -> QueryGrowth | None:
    """What a mixer says; None for no growth.

    Raises:
        ConfigurationError: for anything but `{"beta": number, "length": positive whole number}`.
        UnknownKeywordError: for other keys.
    """
    if entry is None:
        return None
    known = {f.name for f in fields(QueryGrowth)}
    if set(entry) - known:
        raise unknown_keywords(f"{path}.query_growth", set(entry) - known, known)
    beta, length = entry.get("beta"), entry.get("length")
    numbers = isinstance(beta, int | float) and isinstance(length, int)
    if not numbers or isinstance(beta, bool) or isinstance(length, bool) or length < 1:
        raise invalid(f"{path}.query_growth", dict(entry), '{"beta": number, "length": positive whole number}')
    return QueryGrowth(float(beta), length)
