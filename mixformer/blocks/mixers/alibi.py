"""Slopes of attention with linear biases (Press et al. 2022, arXiv:2108.12409), by the formulas that models have.

The formulas differ in their last bits, for eleven heads and more. A rounded slope times a distance moves logits by more
than a conversion may: so the configuration says which one a model was trained with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mixformer.errors import ConfigurationError, invalid

FORMULAS = ("exact", "bloom", "mpt")
LARGEST = 8.0  # -log2 of the last slope


@dataclass(frozen=True)
class Alibi:
    """Biases of scores by -slope * distance.

    Attributes:
        heads: Query heads, 0 for no biases.
        formula: "exact" for powers in Python's numbers, "bloom" and "mpt" for powers in float32, as these models have.
        bias_max: -log2 of the last slope; other than 8 in MPT alone.
    """

    heads: int = 0
    formula: str = "exact"
    bias_max: float = LARGEST

    def slopes(self) -> Tensor:
        """One slope per head, (heads,) float32."""
        if self.formula == "bloom":
            return _bloom(self.heads)
        if self.formula == "mpt":
            return _mpt(self.heads, self.bias_max)
        return torch.tensor(alibi_slopes(self.heads), dtype=torch.float32, device="cpu")


def checked_alibi(use: bool, heads: int, formula: str, bias_max: float, path: str) -> Alibi:
    """The biases that the keywords of a mixer ask for.

    Raises:
        ConfigurationError: an unknown formula, one without `use_alibi`, or a largest bias that it does not have.
    """
    if formula not in FORMULAS:
        raise invalid(f"{path}.alibi_formula", formula, f"one of {list(FORMULAS)}")
    if not use and (formula != "exact" or bias_max != LARGEST):
        raise ConfigurationError(f"`{path}` has alibi_formula or alibi_bias_max without use_alibi: leave them out.")
    if (bias_max != LARGEST and formula != "mpt") or bias_max <= 0:
        raise invalid(f"{path}.alibi_bias_max", bias_max, "8, or a positive number with alibi_formula 'mpt'")
    return Alibi(heads if use else 0, formula, float(bias_max))


def alibi_slopes(heads: int) -> list[float]:
    """One slope per head: a geometric sequence from 2^(-8/n) for n heads, n a power of two.

    Any other number of heads takes the slopes of the power of two below, then every second one of the power above.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = _geometric(power)
    return slopes + _geometric(2 * power)[0::2][: heads - power]


def _geometric(heads: int) -> list[float]:
    ratio = 2.0 ** (-8.0 / heads)
    return [ratio ** (i + 1) for i in range(heads)]


def _bloom(heads: int) -> Tensor:
    """The same slopes as powers of a float32 ratio (transformers 5.23, `models/bloom`)."""
    power = 2 ** math.floor(math.log2(heads))
    rest = torch.arange(1, 1 + 2 * (heads - power), 2, dtype=torch.int32, device="cpu")
    every = torch.arange(1, 1 + power, dtype=torch.int32, device="cpu")
    return torch.cat((torch.pow(_ratio(power), every), torch.pow(_ratio(2 * power), rest)))


def _ratio(heads: int) -> Tensor:
    return torch.full((), 2 ** (-(2 ** -(math.log2(heads) - 3))), dtype=torch.float32, device="cpu")


def _mpt(heads: int, bias_max: float) -> Tensor:
    """2^(-bias_max i / n) in float32 for the power of two n from `heads` up, those of even i first (transformers 5.23,
    `models/mpt`). Without rounding and with a `bias_max` of 8, these are the same slopes."""
    power = 2 ** math.ceil(math.log2(heads))
    exponents = torch.arange(1, power + 1, dtype=torch.float32, device="cpu") * (bias_max / power)
    slopes = 1.0 / torch.pow(2, exponents)
    return slopes if power == heads else torch.cat((slopes[1::2], slopes[::2]))[:heads]
