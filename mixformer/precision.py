"""The precision of the islands (norms, rotary tables, softmax) and of parts with a dtype of their own: a policy.

A hard-coded `float32` in a norm or in a softmax puts a floor of about 1e-7 under a float64 run, so that float64 no
longer tells a faithful conversion from an almost faithful one. Every island asks here instead.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

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


def in_own_dtype(x: Tensor, weight: Tensor, own: torch.dtype | None) -> Tensor:
    """x in the dtype of the weights of a part that was given one of its own; of any other part, x as it is."""
    return x if own is None else x.to(weight.dtype)


def computed_in_own_dtype(
    compute: Callable[[Tensor], Tensor], x: Tensor, weight: Tensor, own: torch.dtype | None
) -> Tensor:
    """compute(x), for such a part in the dtype of its weights and returned in that of x."""
    return compute(x) if own is None else compute(x.to(weight.dtype)).to(x.dtype)
