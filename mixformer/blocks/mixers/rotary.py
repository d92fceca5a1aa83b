"""Rotary position embedding, half-split (NeoX style): dimension i pairs with i + rotary_dim / 2."""

from __future__ import annotations

import torch
from torch import Tensor

from mixformer.blocks.mixers.rope import LENGTH_DEPENDENT, Frequencies
from mixformer.derived_buffers import DerivedBuffers
from mixformer.forward_context import ForwardContext
from mixformer.precision import accumulation_dtype


class RotaryEmbedding(DerivedBuffers):
    """Rotates the first `rotary_dim` dimensions of every head by position times inverse frequency (Su et al. 2021).

    `inv_freq` (rotary_dim / 2,) is no part of the state dict. It stays float32 when the model is cast to something
    narrower, since positions times a rounded frequency drift apart within a few hundred tokens.
    """

    inv_freq: Tensor
    kind = "rotary"  # of the tables that layers share

    def __init__(self, frequencies: Frequencies) -> None:
        super().__init__()
        self.frequencies = frequencies
        size = (frequencies.rotary_dim // 2,)
        self.register_buffer("inv_freq", torch.empty(size, dtype=torch.float32), persistent=False)
        self.factor = 1.0
        self.reset_buffers()

    @torch.no_grad()
    def reset_buffers(self) -> None:
        """Fill `inv_freq`."""
        # On the CPU whatever the default device: accelerators may round a power differently.
        values, self.factor = self.frequencies.compute(torch.device("cpu"))
        if not self.inv_freq.is_meta:
            self.inv_freq.copy_(values)

    def forward(self, x: Tensor, context: ForwardContext) -> Tensor:
        """Rotate x.

        Args:
            x: (B, S, heads, head_dim), any floating dtype.
            context: Gives the positions, (1 or B, S).

        Returns:
            (B, S, heads, head_dim) in the dtype of x.
        """
        key = (self.kind, *self.frequencies.signature, x.dtype, x.device)
        cos, sin = context.once(key, lambda: self.tables(context.position_ids, x.dtype))
        return rotate(x, cos, sin)

    def tables(self, position_ids: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines, (1 or B, S, 1, rotary_dim / 2) in `dtype`."""
        acc = accumulation_dtype(dtype)
        inv_freq, factor = self.inv_freq, self.factor
        if self.frequencies.kind in LENGTH_DEPENDENT:
            inv_freq, factor = self.frequencies.for_length(inv_freq.float(), position_ids.max() + 1)
        angles = position_ids[..., None, None].to(acc) * inv_freq.to(acc)  # (1 or B, S, 1, rotary_dim / 2)
        return (angles.cos() * factor).to(dtype), (angles.sin() * factor).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """[x1 cos - x2 sin, x2 cos + x1 sin, rest], with x1 and x2 the halves of the rotating dimensions."""
    half = cos.shape[-1]
    x1, x2, rest = x.split((half, half, x.shape[-1] - 2 * half), dim=-1)
    turned = (x1 * cos - x2 * sin, x2 * cos + x1 * sin)
    return torch.cat((*turned, rest) if rest.shape[-1] else turned, dim=-1)
