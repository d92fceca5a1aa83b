"""A mistake that a candidate may have, with the change that undoes it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from golden.faults.model_copy import Patient
from golden.weights.sides import split_role

Undo = Callable[[Patient, random.Random], None]


@dataclass(frozen=True)
class Hypothesis:
    """One possible mistake: ``claim`` is a sentence about the candidate, ``repair`` undoes it.

    ``roles`` are the parts that ``repair`` changes, in all layers or in ``layers``. ``stages`` are the stages where the
    mistake can show first, by the beginning of their names; empty where it can show anywhere. ``computes``: undoing it
    rounds, because the weights were rounded after the mistake.
    """

    claim: str
    repair: Undo
    roles: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    undo_words: str = "the swap"
    layers: tuple[int, ...] = ()
    computes: bool = False

    def undo(self, patient: Patient) -> None:
        """Undo the mistake in this copy of the model."""
        with torch.no_grad():
            self.repair(patient, random.Random(0))

    def keys(self, patient: Patient) -> set[str]:
        """Keys of the tensors that undoing the mistake changes."""
        parts = patient.anatomy.parts
        chosen = {role: part for role, part in parts.items() if role.split(".")[-1] in self.roles}
        layers = {role: split_role(role)[0] for role in chosen}
        return {p.key for role, p in chosen.items() if not self.layers or layers[role] in (None, *self.layers)}

    def fits(self, divergence: str | None) -> bool:
        """Whether the mistake can show first at this stage; True where the stage is not known."""
        return divergence is None or not self.stages or any(divergence.startswith(stage) for stage in self.stages)

    def in_layer(self, layer: int) -> Hypothesis:
        """The same mistake in one layer alone."""
        return replace(
            self,
            claim=f"layer {layer}: {self.claim}",
            repair=lambda patient, rng: self.repair(only_layer(patient, layer), rng),
            stages=tuple(stage.replace("layer 0", f"layer {layer}") for stage in self.stages),
            layers=(layer,),
        )


def only_layer(patient: Patient, layer: int) -> Patient:
    """The same model, of which only the parts of one layer are known."""
    parts = {role: part for role, part in patient.anatomy.parts.items() if role.startswith(f"{layer}.")}
    return Patient(patient.weights, patient.config, replace(patient.anatomy, parts=parts))
