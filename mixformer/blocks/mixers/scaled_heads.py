"""Heads of queries and keys on a sphere, as nGPT has them (Loshchilov et al. 2024, arXiv:2410.01131)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mixformer.blocks.learned_scale import LearnedScale, scale_spec
from mixformer.blocks.mixers.head_sizes import HeadSizes
from mixformer.blocks.norms.l2 import unit
from mixformer.errors import invalid
from mixformer.precision import accumulation_dtype


def scaled_heads(qk: Tensor, l2_norm: bool, scale: LearnedScale | None) -> Tensor:
    """Heads (B, S, H, h) or (B, S, 2H, h), normalised and scaled, rounded to their dtype once.

    Args:
        qk: Heads of q, followed by those of k.
        l2_norm: Whether each head is divided by its length.
        scale: Factors (H * h,), the same for q and k, or None.
    """
    acc = accumulation_dtype(qk.dtype)
    wide = unit(qk.to(acc)) if l2_norm else qk.to(acc)
    if scale is not None:
        factors = scale.effective(acc).unflatten(0, (-1, qk.shape[-1]))  # (H, h)
        wide = wide * factors.repeat(qk.shape[2] // factors.shape[0], 1)
    return wide.to(qk.dtype)


def qk_scale_of(entry: dict[str, Any] | None, sizes: HeadSizes, path: str) -> LearnedScale | None:
    """The scale of q and k that a mixer asks for, one factor for each row of q; None for no scale.

    Raises:
        ConfigurationError: for no scale at all, or fewer heads of k than of q.
    """
    if entry is None:
        return None
    spec = scale_spec(entry, f"{path}.qk_scale")
    if sizes.n_head_kv != sizes.n_head:
        raise invalid(f"{path}.n_head_kv", sizes.n_head_kv, f"n_head = {sizes.n_head}, since q and k share qk_scale")
    return LearnedScale(sizes.n_head * sizes.head_dim, spec)
