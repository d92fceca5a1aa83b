"""Lossy steps: changes of values that a conversion recorded. The reference gets the same change before comparing.

A change that is not recorded is a difference, and fails.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

NAMES = {
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "f16": torch.float16,
}
"""Dtypes that a cast can narrow to, as config files and as safetensors headers spell them."""


def recorded_steps(candidate: Path) -> tuple[Mapping[str, Any], ...]:
    """``lossy_steps`` of the candidate's conversion.json; empty where there is none to read."""
    try:
        record = json.loads((candidate / "conversion.json").read_text(encoding="utf-8"))
        steps = record.get("lossy_steps") or []
    except (OSError, ValueError, AttributeError):
        return ()
    return tuple(step for step in steps if isinstance(step, Mapping)) if isinstance(steps, list) else ()


def cast_of(steps: tuple[Mapping[str, Any], ...]) -> torch.dtype | None:
    """The 16-bit dtype that the recorded steps cast weights to, or None: ``{"step": "cast", "dtype": ...}``."""
    found = [NAMES.get(str(step.get("dtype", "")).lower()) for step in steps if step.get("step") == "cast"]
    return next((dtype for dtype in found if dtype is not None), None)
