"""Known mistakes of conversions, each with the change that undoes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from golden.diagnosis.hypothesis import Hypothesis
from golden.diagnosis.sphere_hypotheses import scale_hypotheses, told_hypotheses
from golden.diagnosis.swaps import layer_roles, swaps_in_layer, swaps_of_layers
from golden.faults import applicability as can
from golden.faults import mapping_faults as m
from golden.faults import weight_faults as w
from golden.faults.model_copy import Patient
from golden.models.anatomy import lookup
from golden.models.parts import ConfigPath


def weight_hypotheses(patient: Patient) -> Iterator[Hypothesis]:
    """Mistakes in the order of rows and tensors: those of all layers, then those of one layer or of two."""
    everywhere = list(_everywhere(patient))
    yield from everywhere
    yield from _head_hypotheses(patient)
    for layer in range(patient.anatomy.n_layer):
        yield from (hypothesis.in_layer(layer) for hypothesis in everywhere)
        yield from swaps_in_layer(patient, layer)
    for layer in range(patient.anatomy.n_layer - 1):
        claim = f"layers {layer} and {layer + 1} are exchanged"
        yield Hypothesis(claim, m.swap_with_next(layer), layer_roles(patient), (f"layer {layer},",))
    for layer in range(patient.anatomy.n_layer):
        yield from swaps_of_layers(patient, layer)


def _everywhere(patient: Patient) -> Iterator[Hypothesis]:
    """Mistakes that a wrong rule makes in every layer."""
    mlp, attention, norm = ("layer 0, mlp",), ("layer 0, attention",), ("layer 0, norm 1",)
    for one, other, stages in (("gate", "up", mlp), ("k", "v", attention), ("norm_1", "norm_2", norm)):
        if can.same_shape(one, other)(patient):
            yield Hypothesis(f"{one} and {other} are exchanged", m.swap_everywhere(one, other), (one, other), stages)
    if can.same_shape("q_norm", "k_norm")(patient):
        swap = m.swap_everywhere("q_norm", "k_norm")
        yield Hypothesis("q_norm and k_norm are exchanged", swap, ("q_norm", "k_norm"), attention)
    yield from _rotary_hypotheses(patient, attention)
    if can.groups_heads(patient):
        claim, undo = "key-value heads are tiled instead of repeated", "the order of repeated heads"
        yield Hypothesis(claim, m.untile_kv_heads, ("q", "o"), attention, undo)
    if can.is_square("o")(patient):
        yield Hypothesis("o is transposed", m.transpose("o"), ("o",), attention, "the transpose")
    scale, roles = float(patient.anatomy.head_dim) ** 0.5, ("q", "q_bias", "q_norm", "qk_scale")
    for factor, claim in ((scale, "attention is scaled by 1/d"), (1.0 / scale, "attention is not scaled")):
        undo = f"the factor {factor:.4g}"
        yield Hypothesis(claim, m.scale_queries(factor), roles, attention, undo, computes=True)
    yield from scale_hypotheses(patient)


def _head_hypotheses(patient: Patient) -> Iterator[Hypothesis]:
    if can.has_whole("head")(patient):
        for shift in (-1, 1):
            claim = f"rows of the head are rolled by {-shift}"
            yield Hypothesis(claim, w.roll_rows("head", shift), ("head",), ("logits",), "the roll back")


def _rotary_hypotheses(patient: Patient, stages: tuple[str, ...]) -> Iterator[Hypothesis]:
    if not can.rotates(patient):
        return
    for roles in (("q", "k"), ("q",), ("k",)):
        rows, undo = f"rows of {' and '.join(roles)}", "the half-split order"
        yield Hypothesis(f"{rows} are in interleaved rotary order", m.deinterleave(*roles), roles, stages, undo)
        twice, undo = f"{rows} were put into half-split order twice", "the reverse of that order"
        yield Hypothesis(twice, m.interleave(*roles), roles, stages, undo)


USUAL: dict[str, tuple[Any, ...]] = {
    "eps": (1e-5, 1e-6, 1e-8, 1e-12),
    "theta": (1e4, 1e5, 5e5, 1e6),
    "activation": ("silu", "gelu", "gelu_new", "relu"),
    "tie": (True, False),
}
"""Values that these config fields have in published models."""


SHOWS_IN: dict[str, tuple[str, ...]] = {
    "eps": ("layer 0, norm", "layer 0, attention"),
    "theta": ("layer 0, attention",),
    "activation": ("layer 0, mlp",),
    "tie": ("logits",),
    "rotary_dim": ("layer 0, attention",),
    "window": ("layer 0, attention",),
}
"""The stages where a wrong value of a config field shows first."""


SPELLED: dict[str, tuple[ConfigPath, ...]] = {
    "eps": (("rms_norm_eps",), ("layer_norm_epsilon",), ("layer_norm_eps",), ("norm_eps",)),
    "theta": (("rope_parameters", "rope_theta"), ("rope_theta",), ("architecture", "mixer", "rotary_base")),
    "activation": (("hidden_act",), ("activation_function",), ("architecture", "mlp", "act_fn")),
}
"""The fields of the reference's config that may hold the right value."""


def config_hypotheses(patient: Patient, reference: Mapping[str, Any]) -> Iterator[Hypothesis]:
    """Config fields with another value: that of the reference first, then the usual ones."""
    yield from told_hypotheses(patient, reference)
    head_dim = patient.anatomy.head_dim
    for dial, usual in (USUAL | {"rotary_dim": (head_dim, head_dim // 2)}).items():
        if dial not in patient.anatomy.dials:
            continue
        now = patient.read(dial)
        told = (lookup(reference, path) for path in SPELLED.get(dial, ()))
        for value in dict.fromkeys((*(value for value in told if value is not None), *usual)):
            if value != now:
                claim = f"{dial} is {now} and should be {value}"
                yield Hypothesis(claim, m.set_dial(dial, value), (), SHOWS_IN[dial], f"{dial} {value}")
    if "window" in patient.anatomy.dials and patient.read("window"):
        for by in (-1, 1):
            claim = f"the window is off by {-by}"
            yield Hypothesis(claim, m.shift_window(by), (), SHOWS_IN["window"], "the right window")
