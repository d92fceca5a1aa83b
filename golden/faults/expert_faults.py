"""Faults of a mixture of experts: in the router, in which expert is which, and in how experts are weighed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from golden.faults import applicability as can
from golden.faults import mapping_faults as m
from golden.faults import weight_faults as w
from golden.faults.fault import Fault
from golden.faults.model_copy import Patient

ROLES = ("router", "experts_fc1", "experts_fc2", "shared_fc1", "shared_fc2", "shared_gate")


def expert_faults() -> Iterator[Fault]:
    """Faults of weights, of the mapping, and of the config."""
    for role in ROLES:
        yield Fault(f"one sign in {role}", "weight", can.has(role), w.flip_sign(role))
    yield Fault("router rows swapped", "mapping", can.has("router"), swap_router_rows)
    yield Fault("experts rotated", "mapping", can.has("router"), rotate_experts)
    yield Fault("up and gate of all experts swapped", "mapping", can.has("router"), swap_up_with_gate)
    yield Fault("shared gate lost", "mapping", can.has("shared_gate"), lose_shared_gate)
    for value, words in ((True, "left out"), (False, "added")):
        applies = can.both(can.dial_is("norm_topk", value), uses_several)
        yield Fault(f"normalisation of the top-k {words}", "config", applies, m.set_dial("norm_topk", not value))
    yield Fault("one expert fewer for each token", "config", uses_several, use_one_fewer)


def uses_several(patient: Patient) -> bool:
    """A token uses more than one expert."""
    return can.dial_is("n_active")(patient) and int(patient.read("n_active")) > 1


def swap_router_rows(patient: Patient, rng: random.Random) -> None:
    """Two rows of the router of one layer change places, their experts do not."""
    router = w.any_part(patient, "router", rng)
    one, other = rng.sample(range(len(router)), 2)
    kept = router[one].clone()
    router[one] = router[other].clone()
    router[other] = kept


def rotate_experts(patient: Patient, rng: random.Random) -> None:
    """Each expert stands in the place of the next one, in every layer."""
    for i in patient.anatomy.layers_with("router"):
        count = len(patient.part(f"{i}.router"))
        for role in ("experts_fc1", "experts_fc2"):
            part = patient.part(f"{i}.{role}")
            w.assign(part, part.roll(len(part) // count, 0))


def swap_up_with_gate(patient: Patient, rng: random.Random) -> None:
    """In every expert the half that is activated changes places with the other."""
    for i in patient.anatomy.layers_with("router"):
        part = patient.part(f"{i}.experts_fc1")
        halves = part.view(len(patient.part(f"{i}.router")), 2, -1, part.shape[1])  # (experts, half, rows, columns)
        w.assign(part, halves.flip(1).flatten(0, 2))


def lose_shared_gate(patient: Patient, rng: random.Random) -> None:
    """The shared expert is added without its gate."""
    patient.turn("shared_gate", False)
    for i in patient.anatomy.layers_with("shared_gate"):
        del patient.weights[patient.anatomy.parts[f"{i}.shared_gate"].key]


def use_one_fewer(patient: Patient, rng: random.Random) -> None:
    """The last of the experts that a token uses does not compute."""
    patient.turn("n_active", int(patient.read("n_active")) - 1)
