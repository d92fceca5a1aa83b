"""A mistake that a candidate may have, with the change that undoes it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch

from golden.faults.model_copy import Patient

Undo = Callable[[Patient, random.Random], None]


@dataclass(frozen=True)
class Hypothesis:
    """One possible mistake: ``claim`` is a sentence about the candidate, ``repair`` undoes it.

    ``roles`` are the parts that ``repair`` changes. ``stages`` are the stages where the mistake can show first, by the
    beginning of their names; empty where it can show anywhere.
    """

    claim: str
    repair: Undo
    roles: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()

    def undo(self, patient: Patient) -> None:
        """Undo the mistake in this copy of the model."""
        with torch.no_grad():
            self.repair(patient, random.Random(0))

    def keys(self, patient: Patient) -> set[str]:
        """Keys of the tensors that undoing the mistake changes."""
        parts = patient.anatomy.parts
        return {part.key for role, part in parts.items() if role.split(".")[-1] in self.roles}

    def fits(self, divergence: str | None) -> bool:
        """Whether the mistake can show first at this stage; True where the stage is not known."""
        return divergence is None or not self.stages or any(divergence.startswith(stage) for stage in self.stages)
