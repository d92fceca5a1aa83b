"""Known mistakes of conversions of nGPT: scales in the wrong order, and fields whose values the dialect tells."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from golden.diagnosis.hypothesis import Hypothesis, Undo
from golden.faults import applicability as can
from golden.faults import mapping_faults as m
from golden.faults.model_copy import Patient
from golden.models.anatomy import lookup

ATTENTION, MLP = ("layer 0, attention",), ("layer 0, mlp",)
HALVES = ("up", "gate", "up_bias", "gate_bias", "up_scale", "gate_scale")
Fields = Mapping[str, Any]


def scale_hypotheses(patient: Patient) -> Iterator[Hypothesis]:
    """Mistakes in the order of learned scales."""
    if can.has("qk_scale")(patient):
        claim, roles = "entries of qk_scale are in interleaved rotary order", ("qk_scale",)
        yield Hypothesis(claim, m.deinterleave("qk_scale"), roles, ATTENTION, "the half-split order")
        claim = "entries of qk_scale were put into half-split order twice"
        yield Hypothesis(claim, m.interleave("qk_scale"), roles, ATTENTION, "the reverse of that order")
    for one, other in (("attn_alpha", "mlp_alpha"), ("up_scale", "gate_scale")):
        if can.same_shape(one, other)(patient):
            yield Hypothesis(f"{one} and {other} are exchanged", m.swap_everywhere(one, other), (one, other), MLP)
    if can.same_shape("up_scale", "gate_scale")(patient):
        yield Hypothesis("gate and up are exchanged, with their scales", _swap_halves, HALVES, MLP)


def _swap_halves(patient: Patient, rng: random.Random) -> None:
    for ending in ("", "_bias", "_scale"):
        m.swap_everywhere(f"up{ending}", f"gate{ending}")(patient, rng)


def told_hypotheses(patient: Patient, reference: Fields) -> Iterator[Hypothesis]:
    """Fields of a MixFormer that differ from what the reference's dialect means.

    Args:
        reference: its config. Of any other model than an nGPT nothing is told.
    """
    places = patient.anatomy.dials.get("theta", ())
    if not places or "architecture" not in patient.config:
        return
    for field, value in _mixer_fields(reference, patient.anatomy.head_dim).items():
        now = lookup(patient.config, (*places[0][:-1], field))
        if now != value:
            claim = f"{field} is {_said(now)} and should be {_said(value)}"
            yield Hypothesis(claim, _set_beside(field, value), (), ATTENTION, f"{field} {_said(value)}")
    width = patient.part("embed").shape[-1]
    for dial, (value, stages) in _numbers(reference, width).items():
        if dial in patient.anatomy.dials and patient.read(dial) != value:
            claim = f"{dial} is {_said(patient.read(dial))} and should be {_said(value)}"
            yield Hypothesis(claim, m.set_dial(dial, value), (), stages, f"{dial} {_said(value)}")


def _said(value: Any) -> str:
    return "not said" if value is None else str(value)


def _mixer_fields(reference: Fields, head_dim: int) -> Fields:
    """What the dialect means by its attention; None stands for a field that is left out."""
    root = head_dim**0.5
    if reference.get("model_type") == "ngpt-tutorial":
        told = {"attn_fn": "masked_linear", "masked_score": -1e8, "rotary_formula": "pow", "rotary_style": None}
        return told | {"softmax_scale": root, "qk_l2_norm": True}
    if reference.get("model_type") == "ngpt-nvidia":
        told = {"rotary_formula": "exp", "rotary_style": "ngpt_nvidia"}
        return told | ({"softmax_scale": root, "qk_l2_norm": True} if reference.get("use_nGPT") else {})
    return {}


def _numbers(reference: Fields, width: int) -> Mapping[str, tuple[Any, tuple[str, ...]]]:
    """Dial -> what the dialect means by it, and where another value shows first."""
    if reference.get("model_type") == "ngpt-tutorial":
        base, rate, branch, inner = 1.0, 1.0, "add", 1.0
    elif reference.get("model_type") == "ngpt-nvidia":
        base, rate, branch, inner = float(reference.get("base_scale") or 1.0), 0.05, "lerp", width**0.5
    else:
        return {}
    return {
        "residual": (branch, MLP),
        "scaling": (base, ATTENTION),
        "attn_alpha_init": (rate, MLP),
        "mlp_alpha_init": (rate, ("layer 0, output",)),
        "qk_scale_init": (1.0, ATTENTION),
        "uv_scale_init": (inner, MLP),
        "logit_scale_init": (1.0, ("logits",)),
    }


def _set_beside(field: str, value: Any) -> Undo:
    """Sets a field of every mixer, or takes it away; no softmax needs the score of later keys beside it."""

    def repair(patient: Patient, rng: random.Random) -> None:
        for place in patient.anatomy.dials["theta"]:
            mixer = lookup(patient.config, place[:-1])
            if value is None:
                mixer.pop(field, None)
            else:
                mixer[field] = value
            if field == "attn_fn":
                mixer["masked_score"] = -1e8

    return repair
