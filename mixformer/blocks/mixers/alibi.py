"""Slopes of attention with linear biases (Press et al. 2022, arXiv:2108.12409)."""

from __future__ import annotations

import math


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
