"""Faults of a mapping or a config: all values are there, but in the wrong place or read in the wrong way."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from golden.faults.fault import Plant
from golden.faults.model_copy import Patient
from golden.faults.weight_faults import any_part, assign
from golden.models.anatomy import Anatomy
from golden.models.parts import Part

# Parts that change places


def swap_everywhere(one: str, other: str) -> Plant:
    """Two roles of equal shape change places in every layer."""

    def plant(patient: Patient, rng: random.Random) -> None:
        for i in patient.anatomy.layers_with(one, other):
            patient.swap(f"{i}.{one}", f"{i}.{other}")

    return plant


def swap_once(one: str, other: str) -> Plant:
    """Two roles of equal shape change places in one layer."""

    def plant(patient: Patient, rng: random.Random) -> None:
        i = rng.choice(patient.anatomy.layers_with(one, other))
        patient.swap(f"{i}.{one}", f"{i}.{other}")

    return plant


def swap_in_layer(i: int) -> Plant:
    """The norms of layer ``i`` change places."""
    return lambda patient, rng: patient.swap(f"{i}.norm_1", f"{i}.norm_2")


def swap_q_with_k(patient: Patient, rng: random.Random) -> None:
    """All key heads change places with as many query heads."""
    for i in patient.anatomy.layers_with("q", "k"):
        q, k = patient.part(f"{i}.q"), patient.part(f"{i}.k")
        kept = k.clone()
        k.copy_(q[: len(k)])
        q[: len(k)] = kept


def swap_layers(patient: Patient, rng: random.Random) -> None:
    """Two neighbouring layers change places."""
    swap_with_next(rng.randrange(patient.anatomy.n_layer - 1))(patient, rng)


def swap_with_next(i: int) -> Plant:
    """Layers ``i`` and ``i + 1`` change places."""

    def plant(patient: Patient, rng: random.Random) -> None:
        for role in [name.split(".", 1)[1] for name in patient.anatomy.parts if name.startswith(f"{i}.")]:
            patient.swap(f"{i}.{role}", f"{i + 1}.{role}")

    return plant


def transpose(role: str) -> Plant:
    """A square matrix is stored the other way round in every layer."""

    def plant(patient: Patient, rng: random.Random) -> None:
        for i in patient.anatomy.layers_with(role):
            assign(patient.part(f"{i}.{role}"), patient.part(f"{i}.{role}").T)

    return plant


# Heads and rotary order


def interleave(*roles: str) -> Plant:
    """Rows of every head go from half-split to interleaved rotary order, as where a permutation is missing."""

    def plant(patient: Patient, rng: random.Random) -> None:
        dim = patient.anatomy.head_dim
        for i in patient.anatomy.layers_with(*roles):
            for role in roles:
                part = patient.part(f"{i}.{role}")
                heads = part.view(-1, 2, dim // 2, *part.shape[1:])  # (heads, half, pair, columns or none)
                assign(part, heads.transpose(1, 2).reshape(part.shape))

    return plant


def deinterleave(*roles: str) -> Plant:
    """The reverse of :func:`interleave`."""

    def plant(patient: Patient, rng: random.Random) -> None:
        dim = patient.anatomy.head_dim
        for i in patient.anatomy.layers_with(*roles):
            for role in roles:
                part = patient.part(f"{i}.{role}")
                heads = part.view(-1, dim // 2, 2, *part.shape[1:])  # (heads, pair, half, columns or none)
                assign(part, heads.transpose(1, 2).reshape(part.shape))

    return plant


def interleave_one_head(patient: Patient, rng: random.Random) -> None:
    """One query head of one layer is in interleaved order."""
    dim = patient.anatomy.head_dim
    part = any_part(patient, "q", rng)
    start = rng.randrange(patient.anatomy.n_head) * dim
    head = part[start : start + dim]
    assign(head, head.view(2, dim // 2, -1).transpose(0, 1).reshape(head.shape))


def exchange_heads(patient: Patient, rng: random.Random) -> None:
    """The first and the last query head of one layer change places, their outputs do not."""
    dim = patient.anatomy.head_dim
    part = any_part(patient, "q", rng)
    first = part[:dim].clone()
    part[:dim] = part[-dim:].clone()
    part[-dim:] = first


def tile_kv_heads(patient: Patient, rng: random.Random) -> None:
    """Query head h reads key-value head h mod K instead of h // (H / K).

    The query heads and their columns of o are re-ordered, which has the same effect.
    """
    _reorder_heads(patient, _tiled_order(patient))


def untile_kv_heads(patient: Patient, rng: random.Random) -> None:
    """The reverse of :func:`tile_kv_heads`."""
    _reorder_heads(patient, torch.argsort(_tiled_order(patient)))


def _tiled_order(patient: Patient) -> torch.Tensor:
    """The head that sits at each place, (H,), when heads of one group are K apart."""
    H, K = patient.anatomy.n_head, patient.anatomy.n_head_kv
    return torch.arange(H).view(H // K, K).T.reshape(-1)


def _reorder_heads(patient: Patient, order: torch.Tensor) -> None:
    H, dim = patient.anatomy.n_head, patient.anatomy.head_dim
    for i in patient.anatomy.layers_with("q", "o"):
        q, o = patient.part(f"{i}.q"), patient.part(f"{i}.o")
        assign(q, q.view(H, dim, -1)[order].reshape(q.shape))
        assign(o, o.view(len(o), H, dim)[:, order].reshape(o.shape))


def scale_queries(factor: float | None) -> Plant:
    """Attention scores are multiplied by ``factor`` (None: 1/sqrt(d)), see `scale_scores`."""

    def plant(patient: Patient, rng: random.Random) -> None:
        by = patient.anatomy.head_dim**-0.5 if factor is None else factor
        for i in patient.anatomy.layers_with("q"):
            scale_scores(patient.anatomy, patient.weights, i, by)

    return plant


def scale_scores(anatomy: Anatomy, weights: Mapping[str, Tensor], layer: int, by: float) -> None:
    """Multiplies the scores of one layer. What is behind the last division by a length is changed: a scale that acts on
    q and on k, else the norm of q, else q."""
    roles = {"qk_scale": by**0.5} if f"{layer}.qk_scale" in anatomy.parts else {"q_norm": by}
    if not any(f"{layer}.{role}" in anatomy.parts for role in roles):
        roles = {"q": by, "q_bias": by}
    for role, factor in roles.items():
        if f"{layer}.{role}" in anatomy.parts:
            anatomy.parts[f"{layer}.{role}"].view(weights).mul_(factor)


# Config fields


def multiply_dial(name: str, factor: float) -> Plant:
    """A number of the config is off by a factor."""
    return lambda patient, rng: patient.turn(name, patient.read(name) * factor)


def set_dial(name: str, value: Any) -> Plant:
    """A value of the config is another."""
    return lambda patient, rng: patient.turn(name, value)


def tie_head(patient: Patient, rng: random.Random) -> None:
    """The head is dropped and read from the embedding."""
    patient.turn("tie", True)
    del patient.weights[_head_key(patient)]


def untie_head(patient: Patient, rng: random.Random) -> None:
    """The head is no longer the embedding but a matrix of its own."""
    patient.turn("tie", False)
    embed = patient.part("embed")
    patient.weights[_head_key(patient)] = embed.roll(1, 0).clone()


def _head_key(patient: Patient) -> str:
    head: Part | None = patient.anatomy.parts.get("head")
    if head is not None:
        return head.key
    tied_names = {"model.embed_tokens.weight": "lm_head.weight"}
    embed = patient.anatomy.parts["embed"].key
    return tied_names.get(embed, f"layers.{patient.anatomy.n_layer + 1}.linear.weight")


def halve_rotary(patient: Patient, rng: random.Random) -> None:
    """Only half of the rotated dimensions are rotated."""
    patient.turn("rotary_dim", max(2, int(patient.read("rotary_dim")) // 4 * 2))


def shift_window(by: int) -> Plant:
    """The window has ``by`` keys more, as where inclusive and exclusive sizes are mixed up."""

    def plant(patient: Patient, rng: random.Random) -> None:
        window = patient.read("window")
        if isinstance(window, str):
            left, right = (int(side) for side in window.strip("()[] ").split(","))
            patient.turn("window", f"({left + by}, {right})")
        elif isinstance(window, list):
            patient.turn("window", [window[0] + by, *window[1:]])
        else:
            patient.turn("window", window + by)

    return plant
