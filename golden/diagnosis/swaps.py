"""Hypotheses that two parts of equal shape changed places, in one layer or in two."""

from __future__ import annotations

import random
from collections.abc import Iterator

from golden.diagnosis.hypothesis import Hypothesis
from golden.faults.model_copy import Patient
from golden.weights.places import place_of
from golden.weights.sides import split_role


def layer_roles(patient: Patient) -> tuple[str, ...]:
    """Names of parts that layers have."""
    return tuple(dict.fromkeys(role.split(".")[-1] for role in patient.anatomy.parts if "." in role))


def swaps_in_layer(patient: Patient, layer: int) -> Iterator[Hypothesis]:
    """Any two parts of equal shape in one layer."""
    roles = [role for role in layer_roles(patient) if f"{layer}.{role}" in patient.anatomy.parts]
    for k, one in enumerate(roles):
        for other in roles[k + 1 :]:
            pair = f"{layer}.{one}", f"{layer}.{other}"
            if patient.part(pair[0]).shape == patient.part(pair[1]).shape:
                yield _swap(f"layer {layer}: {one} and {other} are exchanged", pair)


def swaps_of_layers(patient: Patient, layer: int) -> Iterator[Hypothesis]:
    """A part of a layer and one of a later layer or of none, of equal shape; the same part and whole tensors first."""
    parts = patient.anatomy.parts
    later = range(layer + 1, patient.anatomy.n_layer)
    for other in later:
        for role in layer_roles(patient):
            pair = f"{layer}.{role}", f"{other}.{role}"
            if all(name in parts for name in pair):
                yield _swap(f"{role} of layers {layer} and {other} are exchanged", pair)
        for roles in (("q", "k", "v"), ("gate", "up")):
            pairs = [(f"{layer}.{role}", f"{other}.{role}") for role in roles]
            if all(name in parts for pair in pairs for name in pair):
                said = ", ".join(roles[:-1]) + f" and {roles[-1]}"
                yield _swap(f"{said} of layers {layer} and {other} are exchanged", *pairs)
    here = [role for role in layer_roles(patient) if f"{layer}.{role}" in parts]
    others = [role for role in parts if split_role(role)[0] in later or split_role(role)[0] is None]
    for role in here:
        for other_role in others:
            j, name = split_role(other_role)
            shapes = {patient.part(f"{layer}.{role}").shape, patient.part(other_role).shape}
            if name != role and len(shapes) == 1:
                said = name if j is None else f"{name} of layer {j}"
                yield _swap(f"{role} of layer {layer} and {said} are exchanged", (f"{layer}.{role}", other_role))


def _swap(claim: str, *pairs: tuple[str, str]) -> Hypothesis:
    def repair(patient: Patient, rng: random.Random) -> None:
        for one, other in pairs:
            patient.swap(one, other)

    names = [split_role(role) for pair in pairs for role in pair]
    layers = tuple(sorted({layer for layer, _ in names if layer is not None}))
    stages = tuple({place_of(role) for pair in pairs for role in pair if split_role(role)[0] == layers[0]})
    return Hypothesis(claim, repair, tuple({name for _, name in names}), stages, layers=layers)
