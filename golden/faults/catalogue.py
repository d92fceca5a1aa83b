"""The catalogue of planted faults. Each changes the function a little, and the verdict must find each.

A fault says which weights or config fields it needs, so a model has the faults that apply to it. ``seed`` chooses
layer, row and element. The list follows the tables of the parity facts (sections 2 and 5b).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from golden.faults import applicability as can
from golden.faults import mapping_faults as m
from golden.faults import weight_faults as w
from golden.faults.expert_faults import expert_faults
from golden.faults.fault import Fault
from golden.faults.model_copy import Patient
from golden.faults.part_faults import part_faults
from golden.faults.sphere_faults import sphere_faults

ROLES = ("q", "k", "v", "o", "gate", "up", "down", "fc1", "fc2", "norm_1", "norm_2", "q_norm", "k_norm")
MLP_BIASES = ("up_bias", "gate_bias", "down_bias", "fc1_bias", "fc2_bias")
BIASES = ("q_bias", "v_bias", "o_bias", *MLP_BIASES, "norm_1_bias", "norm_2_bias")
"""Key biases are left out: without rotary embeddings softmax cancels them, and no logit shows them."""
WHOLE = ("embed", "embed_norm", "embed_norm_bias", "positions", "head", "head_bias", "final_norm", "final_norm_bias")


def catalogue(patient: Patient) -> list[Fault]:
    """Every fault that this model can have."""
    return [fault for fault in all_faults() if fault.applies(patient)]


def all_faults() -> Iterator[Fault]:
    """Faults of single weights, of the mapping, and of the config."""
    for role in (*ROLES, *BIASES):
        yield Fault(f"one sign in {role}", "weight", can.has(role), w.flip_sign(role))
    for role in WHOLE:
        yield Fault(f"one sign in {role}", "weight", can.has_whole(role), w.flip_sign(role))
    yield from _row_faults()
    yield from _mapping_faults()
    yield from _config_faults()
    yield from sphere_faults()
    yield from part_faults()
    yield from expert_faults()


def _row_faults() -> Iterator[Fault]:
    for role in ("q", "v", "o", "up", "down", "fc1", "fc2"):
        yield Fault(f"one row of {role} duplicated", "weight", can.has(role), w.duplicate_row(role))
    for role in ("q", "k"):
        yield Fault(f"two rows of one head of {role} swapped", "weight", can.has(role), w.swap_rows_in_head(role))
    yield Fault("one o left random", "weight", can.has("o"), w.randomise("o"))
    yield Fault("six embedding rows zeroed", "weight", can.has_whole("embed"), w.zero_rows("embed", 6))
    yield Fault("two embedding rows swapped", "weight", can.has_whole("embed"), w.swap_two_rows("embed"))
    yield Fault("head rows rolled by one", "weight", can.has_whole("head"), w.roll_rows("head"))
    yield Fault("weights passed through bfloat16", "weight", can.is_float32, w.round_through(torch.bfloat16))
    yield Fault("weights passed through float16", "weight", can.is_float32, w.round_through(torch.float16))


_SAME_SHAPED = (("gate", "up"), ("k", "v"), ("norm_1", "norm_2"), ("k_bias", "v_bias"), ("q_norm", "k_norm"))


def _mapping_faults() -> Iterator[Fault]:
    for one, other in _SAME_SHAPED:
        yield Fault(f"{one} and {other} swapped", "mapping", can.same_shape(one, other), m.swap_everywhere(one, other))
    norms = ("norm_1", "norm_2")
    yield Fault("norms swapped in one layer", "mapping", can.same_shape(*norms), m.swap_once(*norms))
    yield Fault("q and k swapped in the shared heads", "mapping", can.has("q", "k"), m.swap_q_with_k)
    yield Fault("q and k rows interleaved in all layers", "mapping", can.rotates, m.interleave("q", "k"))
    yield Fault("q rows interleaved in all layers", "mapping", can.rotates, m.interleave("q"))
    yield Fault("one head of one layer interleaved", "mapping", can.rotates, m.interleave_one_head)
    yield Fault("kv heads tiled instead of repeated", "mapping", can.groups_heads, m.tile_kv_heads)
    yield Fault("two q heads of one layer exchanged", "mapping", can.has("q"), m.exchange_heads)
    yield Fault("two layers swapped", "mapping", can.has_two_layers, m.swap_layers)
    yield Fault("o transposed", "mapping", can.is_square("o"), m.transpose("o"))
    yield Fault("final norm taken from layer 0", "mapping", can.has("norm_1"), w.copy_part("0.norm_1", "final_norm"))
    scored = can.both(can.has("q"), can.has_softmax)
    yield Fault("attention scale 1/d", "mapping", scored, m.scale_queries(None))
    finely = can.both(scored, can.scales_finely)
    yield Fault("attention scale 0.1 % off", "mapping", finely, m.scale_queries(1.001))
    for role in ("q_bias", "v_bias", "o_bias", *MLP_BIASES, "head_bias"):
        applies = can.has_whole(role) if role in WHOLE else can.has(role)
        yield Fault(f"{role} lost", "mapping", applies, w.zero_part(role))


_ACTIVATIONS = (("silu", "gelu"), ("gelu_new", "gelu"), ("gelu_pytorch_tanh", "gelu"), ("gelu", "gelu_new"))


def _config_faults() -> Iterator[Fault]:
    yield Fault("rope theta 4 % off", "config", can.dial_is("theta"), m.multiply_dial("theta", 1.04))
    yield Fault("rope theta x 50", "config", can.dial_is("theta"), m.multiply_dial("theta", 50.0))
    yield Fault("norm eps a tenth", "config", can.adds_eps, m.multiply_dial("eps", 0.1))
    yield Fault("norm eps x 10", "config", can.adds_eps, m.multiply_dial("eps", 10.0))
    for right, wrong in _ACTIVATIONS:
        applies = can.dial_is("activation", right)
        yield Fault(f"{right} taken for {wrong}", "config", applies, m.set_dial("activation", wrong))
    yield Fault("head wrongly tied", "config", can.dial_is("tie", False), m.tie_head)
    yield Fault("head wrongly untied", "config", can.dial_is("tie", True), m.untie_head)
    yield Fault("rotary dimension halved", "config", can.turns_part_of_heads, m.halve_rotary)
    yield Fault("window off by one", "config", can.dial_is("window"), m.shift_window(1))
    scaled = can.both(can.dial_is("scale"), can.has_softmax)
    yield Fault("softmax scale 1 % off", "config", scaled, m.multiply_dial("scale", 1.01))
