"""Lossy steps: changes of values that a conversion recorded. The reference gets the same change before comparing.

A change that is not recorded is a difference, and fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

NAMES = {
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "f16": torch.float16,
}
"""Dtypes that a cast can narrow to, as config files and as safetensors headers spell them."""


def cast_of(steps: tuple[Mapping[str, Any], ...]) -> torch.dtype | None:
    """The 16-bit dtype that the recorded steps cast weights to, or None: ``{"step": "cast", "dtype": ...}``."""
    found = [NAMES.get(str(step.get("dtype", "")).lower()) for step in steps if step.get("step") == "cast"]
    return next((dtype for dtype in found if dtype is not None), None)


def rows_of(steps: tuple[Mapping[str, Any], ...], vocab: Any) -> int | None:
    """The rows of the vocabulary that the recorded steps kept, if the candidate has so many (``vocab``); else None."""
    found = [step.get("rows") for step in steps if step.get("step") == "crop vocabulary"]
    return found[0] if found and type(found[0]) is int and found[0] == vocab and vocab > 0 else None
