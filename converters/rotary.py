"""The rotary table of the default rope type, as old checkpoints stored it."""

from collections.abc import Mapping, Sequence
from typing import Any


def inv_freq(resolved: Mapping[str, Any]) -> Sequence[float]:
    """base^(-2k / rotary_dim) for k in 0..rotary_dim / 2 (RoFormer, arXiv 2104.09864, section 3.2.2)."""
    mixer = "architecture.mixer."
    dim, base = resolved[mixer + "rotary_dim"], resolved[mixer + "rotary_base"]
    return [base ** (-2 * k / dim) for k in range(dim // 2)]
