"""What dialects of nGPT share: division by the length, and vectors that stay float32 whatever a model is cast to.

n(x) = x / |x| over the last axis. Such divisions, turns and scales are computed in float32, in float64 for a model in
float64, and their result is rounded to the dtype of the stream.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """x in float32, or in float64 if it is float64 already."""
    return x if x.dtype is torch.float64 else x.float()


def n(x: Tensor) -> Tensor:
    """x / |x| over the last axis, and 0 for a vector of zeros; as `wide`."""
    x = wide(x)
    length = (x * x).sum(-1, keepdim=True).sqrt()
    return x / length.clamp(min=torch.finfo(x.dtype).tiny)


def positions(tokens: int, start: int, frequencies: Tensor, like: Tensor) -> Tensor:
    """Angles (tokens, head_dim / 2): positions from `start` on times the float32 frequencies, as `wide` of `like`."""
    dtype = wide(like).dtype
    return torch.arange(start, start + tokens).to(dtype)[:, None] * frequencies.to(dtype)


def cast(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Matrices and biases in `dtype`; vectors that scale something in float32 at least."""
    narrow = torch.finfo(dtype).bits < torch.finfo(torch.float32).bits
    kept = torch.float32 if narrow else dtype
    return {key: w.to(kept if w.ndim == 1 and not key.endswith("bias") else dtype) for key, w in weights.items()}


def split(x: Tensor, heads: int) -> Tensor:
    """(batch, tokens, width) as (batch, heads, tokens, head_dim)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """The reverse of `split`."""
    return x.transpose(1, 2).flatten(2)


def reciprocal(head_dim: int, base: float = 10000.0) -> Tensor:
    """1 / base ** (2i / head_dim), (head_dim / 2,), float32."""
    return 1.0 / base ** (torch.arange(0, head_dim, 2).float() / head_dim)


def neighbours_turned(x: Tensor, angles: Tensor) -> Tensor:
    """(batch, heads, tokens, head_dim), each pair (2i, 2i + 1) rotated by its angle; as `wide`."""
    pairs = wide(x).reshape(*x.shape[:-1], -1, 2)
    found = torch.view_as_complex(pairs) * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(found).flatten(-2)


def halves_turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(batch, heads, tokens, head_dim), each pair (i, i + head_dim / 2) rotated; as `wide`.

    cos, sin: of the angles, (tokens, head_dim / 2).
    """
    first, second = wide(x).chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def causal(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention of (batch, heads, tokens, head_dim), the mask aligned to the last key."""
    scores = wide(q @ k.transpose(2, 3) * scale)  # (batch, heads, tokens, keys)
    tokens, keys = scores.shape[2:]
    seen = torch.arange(keys)[None] <= torch.arange(tokens)[:, None] + (keys - tokens)
    found: Tensor = torch.where(seen, scores, -torch.inf).softmax(-1).type_as(v) @ v
    return found
