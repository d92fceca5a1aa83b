"""Predicates on a copy of a model: whether it can have a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from golden.faults.model_copy import Patient

Applies = Callable[[Patient], bool]


def has(*roles: str) -> Applies:
    """Some layer has all of these roles."""
    return lambda patient: bool(patient.anatomy.layers_with(*roles))


def has_whole(role: str) -> Applies:
    """The model has this part, which belongs to no layer."""
    return lambda patient: role in patient.anatomy.parts


def same_shape(one: str, other: str) -> Applies:
    """Some layer has both roles, in one shape."""

    def applies(patient: Patient) -> bool:
        layers = patient.anatomy.layers_with(one, other)
        return bool(layers) and patient.part(f"{layers[0]}.{one}").shape == patient.part(f"{layers[0]}.{other}").shape

    return applies


def is_square(role: str) -> Applies:
    """The role's matrix is square, so that its transpose loads."""

    def applies(patient: Patient) -> bool:
        layers = patient.anatomy.layers_with(role)
        return bool(layers) and len(set(patient.part(f"{layers[0]}.{role}").shape)) == 1

    return applies


def dial_is(name: str, value: Any = None) -> Applies:
    """The config has this field, set to ``value`` where one is given."""

    def applies(patient: Patient) -> bool:
        if name not in patient.anatomy.dials:
            return False
        now = patient.read(name)
        return bool(now) if value is None else now == value

    return applies


def both(one: Applies, other: Applies) -> Applies:
    """Both hold."""
    return lambda patient: one(patient) and other(patient)


def has_softmax(patient: Patient) -> bool:
    """Scores become weights by a softmax: without one, their size hardly matters beside that of later keys."""
    return not dial_is("attn_fn", "masked_linear")(patient)


def scales_finely(patient: Patient) -> bool:
    """What the size of the scores is set by is stored in more than 16 bits, which would round 0.1 % away."""
    roles = [role for role in ("0.qk_scale", "0.q_norm", "0.q") if role in patient.anatomy.parts]
    return bool(roles) and patient.part(roles[0]).dtype.itemsize > 2


def turns_part_of_heads(patient: Patient) -> bool:
    """The model can rotate fewer dimensions than a head has."""
    return dial_is("rotary_dim")(patient) and not dial_is("rotary_style", "ngpt_nvidia")(patient)


def uses_scale(name: str) -> Applies:
    """The model has a learned scale of that name, and it has an effect."""

    def applies(patient: Patient) -> bool:
        has_effect = name != "uv_scale" or bool(patient.anatomy.layers_with("up_scale"))
        has_effect = has_effect and (name != "logit_scale" or has_whole(name)(patient))
        # A factor on u alone is divided out, where a gate has its own init and no bias is added behind it.
        if name == "uv_scale" and dial_is("gate_init")(patient) and not patient.anatomy.layers_with("down_bias"):
            return False
        # Without a softmax the size of the scores hardly matters, see `has_softmax`.
        return has_effect and dial_is(f"{name}_init")(patient) and (name != "qk_scale" or has_softmax(patient))

    return applies


def begins_anywhere(patient: Patient) -> bool:
    """The stream as it comes from the embedding has any length. Where it has length 1, it keeps that."""
    return patient.config.get("embd_layer") != "unit"


def adds_eps(patient: Patient) -> bool:
    """Norms add eps to a mean of squares. One that divides by a length only keeps the length above it."""
    return dial_is("eps")(patient) and not dial_is("norm_cls", "l2")(patient)


def is_float32(patient: Patient) -> bool:
    """The weights are float32, so that rounding to 16 bits changes them."""
    return all(tensor.dtype is torch.float32 for tensor in patient.weights.values() if tensor.is_floating_point())


def rotates(patient: Patient) -> bool:
    """The model has rotary embeddings."""
    dials = patient.anatomy.dials
    return "theta" in dials and ("rotary_dim" not in dials or patient.read("rotary_dim") != 0)


def groups_heads(patient: Patient) -> bool:
    """Several, but not all, query heads share a key-value head."""
    return 1 < patient.anatomy.n_head_kv < patient.anatomy.n_head


def has_two_layers(patient: Patient) -> bool:
    """The model has at least two layers."""
    return patient.anatomy.n_layer > 1
