"""The bound of queries, keys and values that OLMo and MPT have."""

from __future__ import annotations

import math

from mixformer.errors import invalid


def checked_clip(clip_qkv: float | None, path: str) -> float | None:
    """The bound of the absolute values of q, k and v.

    Raises:
        ConfigurationError: unless it is a positive number or None.
    """
    if clip_qkv is None:
        return None
    if isinstance(clip_qkv, bool) or not isinstance(clip_qkv, int | float) or not 0 < clip_qkv < math.inf:
        raise invalid(f"{path}.clip_qkv", clip_qkv, "a positive number or None")
    return float(clip_qkv)
