"""Faults of models made of parts that are not of the SDK: norms after branches, multipliers, caps, kinds of layers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from golden.faults import applicability as can
from golden.faults import mapping_faults as m
from golden.faults import weight_faults as w
from golden.faults.fault import Fault
from golden.faults.model_copy import Patient

SWAPPED = (("after_1", "after_2"), ("norm_1", "after_1"), ("norm_2", "after_2"), ("act_alpha_p", "act_alpha_n"))
NUMBERS = {
    "embd_scale": ("multiplier of embeddings", 1.0),
    "residual_scale": ("multiplier of branches", None),
    "softcap": ("cap on scores", 0.0),
    "clip": ("bound of q, k and v", None),
    "growth": ("growth of queries", 0.0),
    "logit_multiplier": ("multiplier of logits", 1.0),
    "logit_softcap": ("cap on logits", 0.0),
}
"""Field -> what it is, and the value at which it does nothing; None where it is tried 2 % off alone."""


def part_faults() -> Iterator[Fault]:
    """Faults of weights, of the mapping, and of the config."""
    for role in ("after_1", "after_2", "act_alpha_p", "act_alpha_n"):
        yield Fault(f"one sign in {role}", "weight", can.has(role), w.flip_sign(role))
    for one, other in SWAPPED:
        yield Fault(f"{one} and {other} swapped", "mapping", can.same_shape(one, other), m.swap_everywhere(one, other))
    for name, (words, nothing) in NUMBERS.items():
        yield Fault(f"{words} 2 % off", "config", can.dial_is(name), m.multiply_dial(name, 1.02))
        if nothing is not None:
            yield Fault(f"{words} lost", "config", says_more(name, nothing), m.set_dial(name, nothing))
    yield Fault("norms around 1 taken for plain ones", "config", centred, plain_norms)
    yield Fault("a layer with positions has none", "config", some_rotate, stop_rotating)


def says_more(name: str, nothing: float) -> can.Applies:
    """The config has this field, at a value that does something."""
    return lambda patient: name in patient.anatomy.dials and patient.read(name) != nothing


def _norms(patient: Patient) -> list[dict[str, Any]]:
    """What the config says of norms, wherever it does."""
    said = patient.config.get("architecture")
    blocks = said if isinstance(said, list) else [said]
    norms = [block.get("norm") for block in blocks if isinstance(block, dict)]
    return [norm for norm in (*norms, patient.config.get("final_norm")) if isinstance(norm, dict)]


def centred(patient: Patient) -> bool:
    """The weights of norms are deviations from 1."""
    return any(norm.get("zero_centered_weight") for norm in _norms(patient))


def plain_norms(patient: Patient, rng: random.Random) -> None:
    """The weights of norms are taken as they are."""
    for norm in _norms(patient):
        norm["zero_centered_weight"] = False


def _mixers(patient: Patient) -> list[dict[str, Any]]:
    """Mixers of a model whose layers differ."""
    said = patient.config.get("architecture")
    return [block["mixer"] for block in said] if isinstance(said, list) else []


def some_rotate(patient: Patient) -> bool:
    """Layers differ, and some rotate."""
    return any(mixer.get("rotary_dim") for mixer in _mixers(patient))


def stop_rotating(patient: Patient, rng: random.Random) -> None:
    """The heads of one layer that rotate do not."""
    rng.choice([mixer for mixer in _mixers(patient) if mixer.get("rotary_dim")])["rotary_dim"] = 0
