"""Heads of queries and keys on a sphere, as nGPT has them (Loshchilov et al. 2024, arXiv:2410.01131)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixformer.blocks.learned_scale import LearnedScale, scale_spec
from mixformer.blocks.mixers.head_sizes import HeadSizes
from mixformer.blocks.norms.l2 import unit
from mixformer.errors import ConfigurationError, invalid
from mixformer.precision import accumulation_dtype

SPANS = ("head", "full")
SCALED = ("qk", "q", "apart", "heads")
ORDERS = ("rotary_first", "rotary_last")


@dataclass(frozen=True)
class HeadRule:
    """What is done to the heads of q and k beside their turn.

    Attributes:
        l2_norm: Whether they are divided by their lengths.
        span: "head" for the length of each head, "full" for that of all heads of q, and of all heads of k.
        scaled: What `qk_scale` has factors for: "qk" (H * h,) for q and k alike; "q" (H * h,) for q alone; "apart"
            ((H + K) * h,) first for q, then for k; "heads" (h,) for every head of both.
        order: "rotary_first" where heads turn before all this, "rotary_last" where they turn after it.
        eps: Smallest length to divide by.
    """

    l2_norm: bool
    span: str
    scaled: str
    order: str
    eps: float

    @property
    def turns_last(self) -> bool:
        """Whether heads turn after they were normalised and scaled."""
        return self.order == "rotary_last"


def head_rule(l2_norm: bool, span: str, scaled: str, order: str, eps: float, path: str) -> HeadRule:
    """The rule that keywords of a mixer ask for.

    Raises:
        ConfigurationError: for an unknown name.
    """
    known = (("qk_l2_span", span, SPANS), ("qk_scaled", scaled, SCALED), ("qk_order", order, ORDERS))
    for name, value, names in known:
        if value not in names:
            raise invalid(f"{path}.{name}", value, f"one of {list(names)}")
    return HeadRule(l2_norm, span, scaled, order, eps)


def scaled_heads(qk: Tensor, n_head: int, rule: HeadRule, scale: LearnedScale | None) -> Tensor:
    """Heads (B, S, H + K, h), normalised and scaled, rounded to their dtype once.

    Args:
        qk: The H = n_head heads of q, followed by those of k.
        scale: Factors as `HeadRule.scaled` says, or None.
    """
    acc = accumulation_dtype(qk.dtype)
    wide = qk.to(acc)
    if rule.l2_norm:
        wide = _normalised(wide, n_head, rule)
    if scale is not None:
        wide = wide * _factors(scale.effective(acc), n_head, qk.shape[2], qk.shape[3], rule.scaled)
    return wide.to(qk.dtype)


def _normalised(qk: Tensor, n_head: int, rule: HeadRule) -> Tensor:
    if rule.span == "head":
        return unit(qk, eps=rule.eps)
    parts = qk.split((n_head, qk.shape[2] - n_head), dim=2)
    return torch.cat([unit(part.flatten(2), eps=rule.eps).view_as(part) for part in parts], dim=2)


def _factors(effective: Tensor, n_head: int, heads: int, head_dim: int, scaled: str) -> Tensor:
    """(H + K, h), or (1, h) where all heads have the same."""
    factors = effective.unflatten(0, (-1, head_dim))
    if scaled == "qk":
        return factors.repeat(heads // n_head, 1)
    return torch.cat((factors, factors.new_ones(heads - n_head, head_dim))) if scaled == "q" else factors


def qk_scale_of(entry: dict[str, Any] | None, scaled: str, sizes: HeadSizes, path: str) -> LearnedScale | None:
    """The scale of q and k that a mixer asks for; None for no scale.

    Raises:
        ConfigurationError: for what is no scale, or one for q and k alike where k has fewer heads.
    """
    if entry is None:
        if scaled != "qk":
            raise ConfigurationError(f"`{path}.qk_scaled` is {scaled!r}, but there is no `{path}.qk_scale`.")
        return None
    spec = scale_spec(entry, f"{path}.qk_scale")
    if scaled == "qk" and sizes.n_head_kv != sizes.n_head:
        raise invalid(f"{path}.n_head_kv", sizes.n_head_kv, f"n_head = {sizes.n_head}, since q and k share qk_scale")
    heads = {"qk": sizes.n_head, "q": sizes.n_head, "apart": sizes.n_head + sizes.n_head_kv, "heads": 1}
    return LearnedScale(heads[scaled] * sizes.head_dim, spec)
