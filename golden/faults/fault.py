"""A planted fault."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from golden.faults.model_copy import Patient

Plant = Callable[[Patient, random.Random], None]


@dataclass(frozen=True)
class Fault:
    """One planted fault. ``applies`` says whether a model can have it, ``plant`` puts it in."""

    name: str
    kind: str
    applies: Callable[[Patient], bool]
    plant: Plant
