"""Faults of models made of the parts of nGPT: in learned scales, in their numbers, in how branches join the stream.

Not every change of such a model is a fault. No function shows a factor on q, k or v, which are divided by their
lengths, one sign in a scale that acts on q and on k, or the sign of a rate. So a scale gets an entry doubled.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch

from golden.faults import applicability as can
from golden.faults import mapping_faults as m
from golden.faults import weight_faults as w
from golden.faults.fault import Fault, Plant
from golden.faults.model_copy import Patient
from golden.models.sphere_parts import LOGIT_SCALE, SCALES

VECTORS = ("qk_scale", "up_scale", "gate_scale", "attn_alpha", "mlp_alpha")
ROWS, COLUMNS = ("embed", "head", "q", "k", "v", "up", "gate"), ("o", "down")
"""Matrices with the width of the model in their rows, and those with it in their columns."""
SWITCHES: tuple[tuple[str, Any, Any, str], ...] = (
    ("qk_order", "rotary_last", "rotary_first", "heads turned before they are scaled"),
    ("qk_l2_span", "full", "head", "the length of each head for that of all"),
    ("rotary_table", "bfloat16", "float32", "tables in float32 for bfloat16"),
    ("qk_scaled", "q", "qk", "keys scaled as queries are"),
    ("value_residual", True, False, "first values left out of later layers"),
    ("unit_weights", True, False, "matrices of attention as they are stored"),
    ("signed_rates", True, False, "rates without their signs"),
    ("normalize_stream", False, True, "the length of the stream divided out"),
)
"""Dials of dialects with what they say, what a fault says, and the name of that fault."""
FORMULAS = ("reciprocal", "pow", "exp")


def sphere_faults() -> Iterator[Fault]:
    """Faults of weights, of the mapping, and of the config."""
    for role in VECTORS:
        yield Fault(f"one entry of {role} doubled", "weight", can.has(role), w.double_entry(role))
    yield Fault(
        f"one entry of {LOGIT_SCALE} doubled", "weight", can.has_whole(LOGIT_SCALE), w.double_entry(LOGIT_SCALE)
    )
    rounded = w.round_roles(torch.bfloat16, *VECTORS, LOGIT_SCALE)
    yield Fault("learned scales passed through bfloat16", "weight", can.has("attn_alpha"), rounded)
    yield Fault("rows normalised again", "weight", can.has("attn_alpha"), normalise_rows)
    yield from _mapping_faults()
    yield from _config_faults()


def _mapping_faults() -> Iterator[Fault]:
    for one, other in (("attn_alpha", "mlp_alpha"), ("up_scale", "gate_scale"), ("qk_scale", "attn_alpha")):
        yield Fault(f"{one} and {other} swapped", "mapping", can.same_shape(one, other), m.swap_everywhere(one, other))
    name = "q and k permuted without their scale"
    yield Fault(name, "mapping", can.has("qk_scale"), m.interleave("qk_scale"))
    for role in VECTORS:
        yield Fault(f"{role} lost", "mapping", can.has(role), lose_scale(role))
    yield Fault(f"{LOGIT_SCALE} lost", "mapping", can.has_whole(LOGIT_SCALE), lose_scale(LOGIT_SCALE))


def _config_faults() -> Iterator[Fault]:
    for right, wrong in (("add", "lerp"), ("lerp", "add")):
        name = f"residual {right} taken for {wrong}"
        yield Fault(name, "config", can.dial_is("residual", right), m.set_dial("residual", wrong))
    linear = can.dial_is("attn_fn", "masked_linear")
    yield Fault("a softmax where there is none", "config", linear, add_softmax)
    yield Fault("later keys score ten times as much", "config", linear, m.multiply_dial("masked_score", 10.0))
    odd = can.dial_is("rotary_style", "ngpt_nvidia")
    yield Fault("a rotation for the odd turn", "config", odd, m.set_dial("rotary_style", "half"))
    for right in FORMULAS:
        for wrong in FORMULAS:
            if right != wrong:
                name, applies = f"frequencies by {wrong} for {right}", can.dial_is("rotary_formula", right)
                yield Fault(name, "config", applies, m.set_dial("rotary_formula", wrong))
    scaled = can.both(can.has("qk_scale"), can.dial_is("scale"))
    yield Fault("scores divided by sqrt(d) for multiplied", "config", scaled, invert_scale)
    for scale in (*SCALES, LOGIT_SCALE):
        name, applies = f"init of {scale} 1 % off", can.uses_scale(scale)
        yield Fault(name, "config", applies, m.multiply_dial(f"{scale}_init", 1.01))
    has_gate = can.dial_is("gate_init")
    yield Fault("init of the gate 1 % off", "config", has_gate, m.multiply_dial("gate_init", 1.01))
    for dial, said, other, called in SWITCHES:
        has = can.dial_is(dial, said)
        shows = can.both(has, can.begins_anywhere) if dial == "normalize_stream" else has
        yield Fault(called, "config", shows, m.set_dial(dial, other))
    yield Fault("another base of all scales", "config", can.dial_is("scaling"), m.multiply_dial("scaling", 1.01))


def lose_scale(role: str) -> Plant:
    """A learned scale is left as it begins."""

    def plant(patient: Patient, rng: random.Random) -> None:
        name = "uv_scale" if role in ("up_scale", "gate_scale") else role
        w.any_part(patient, role, rng).fill_(float(patient.read(f"{name}_scaling")))

    return plant


def normalise_rows(patient: Patient, rng: random.Random) -> None:
    """Every matrix is divided by its lengths along the width of the model, as after a step of training."""
    for name, part in patient.anatomy.parts.items():
        role = name.rpartition(".")[2]
        if role in ROWS + COLUMNS:
            view = part.view(patient.weights)
            view.div_(view.float().norm(dim=1 if role in ROWS else 0, keepdim=True))


def add_softmax(patient: Patient, rng: random.Random) -> None:
    """Scores become weights by a softmax over earlier keys."""
    patient.turn("attn_fn", "softmax")
    patient.turn("masked_score", None)


def invert_scale(patient: Patient, rng: random.Random) -> None:
    """Scores are divided by what they have to be multiplied with."""
    patient.turn("scale", 1.0 / patient.read("scale"))
