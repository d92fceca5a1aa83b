"""Matrices that are divided by the lengths of their rows or columns whenever they are used, as lucidrains' nGPT does.

The stored values have any length. The division is that of torch.nn.functional.normalize: by 1e-12 at least.
"""

from __future__ import annotations

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from mixformer.blocks.norms.l2 import unit
from mixformer.precision import accumulation_dtype

EPS = 1e-12
ROWS, COLUMNS = -1, 0


def of_length_one(weight: Tensor, dim: int) -> Tensor:
    """The vectors of `weight` along `dim`, divided by their lengths in the accumulation dtype and rounded once."""
    return unit(weight.to(accumulation_dtype(weight.dtype)), dim=dim, eps=EPS).to(weight.dtype)


class UnitLinear(nn.Linear):
    """A linear layer whose matrix has rows, or columns, of length 1 when it is used. Parameters: those of `nn.Linear`.

    `dim` is -1 where each output has a vector of length 1, 0 where each input has.
    """

    dim = ROWS

    @classmethod
    def like(cls, layer: nn.Linear, dim: int) -> Self:
        """The same parameters, used in this way."""
        made = cls(1, 1, bias=False, device="meta")
        made.in_features, made.out_features = layer.in_features, layer.out_features
        made.weight, made.bias, made.dim = layer.weight, layer.bias, dim
        return made

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return F.linear(x, of_length_one(self.weight, self.dim), self.bias)


def linear_as_asked(layer: nn.Linear, unit_weights: bool, dim: int) -> nn.Linear:
    """The layer, or where `unit_weights` is set one with its parameters whose vectors along `dim` have length 1."""
    return UnitLinear.like(layer, dim) if unit_weights else layer
