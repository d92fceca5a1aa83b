"""The precision of the islands (norms, rotary tables, softmax): a policy, not a literal in each module.

A hard-coded `float32` in a norm or in a softmax puts a floor of about 1e-7 under a float64 run, so that float64 no
longer tells a faithful conversion from an almost faithful one. Every island asks here instead.
"""

from __future__ import annotations

import torch

from mixformer.errors import invalid


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which an island computes for inputs of `dtype`: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def floating_dtype(dtype: str | torch.dtype | None, path: str) -> torch.dtype | None:
    """The torch dtype named in a configuration, such as "bfloat16"; None for torch's default.

    Raises:
        ConfigurationError: unless it names a floating dtype.
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else None
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise invalid(f"{path}.dtype", dtype, "the name of a floating dtype, such as 'bfloat16'")
    return found
