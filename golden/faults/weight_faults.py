"""Faults of single weights and rows, as a damaged file or a wrong copy has them."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from golden.faults.fault import Plant
from golden.faults.model_copy import Patient


def flip_sign(role: str) -> Plant:
    """One weight of median size or more changes its sign."""

    def plant(patient: Patient, rng: random.Random) -> None:
        part = any_part(patient, role, rng)
        flat = part.abs().flatten()
        candidates = (flat >= flat.median()).nonzero().flatten()
        index = int(candidates[rng.randrange(len(candidates))])
        place = tuple(int(i) for i in torch.unravel_index(torch.tensor(index), part.shape))
        part[place] = -part[place]

    return plant


def double_entry(role: str) -> Plant:
    """One entry of a vector is doubled."""

    def plant(patient: Patient, rng: random.Random) -> None:
        part = any_part(patient, role, rng)
        part[rng.randrange(len(part))] *= 2.0

    return plant


def duplicate_row(role: str) -> Plant:
    """One row is overwritten by its neighbour."""

    def plant(patient: Patient, rng: random.Random) -> None:
        part = any_part(patient, role, rng)
        row = rng.randrange(len(part) - 1)
        part[row] = part[row + 1].clone()

    return plant


def swap_rows_in_head(role: str) -> Plant:
    """The first two rows of one head change places."""

    def plant(patient: Patient, rng: random.Random) -> None:
        part, dim = any_part(patient, role, rng), patient.anatomy.head_dim
        start = rng.randrange(len(part) // dim) * dim
        part[[start, start + 1]] = part[[start + 1, start]]

    return plant


def randomise(role: str) -> Plant:
    """One layer's part keeps a random initialisation of the right size."""

    def plant(patient: Patient, rng: random.Random) -> None:
        part = any_part(patient, role, rng)
        generator = torch.Generator().manual_seed(rng.randrange(2**31))
        noise = torch.randn(part.shape, generator=generator) * part.float().std()
        part.copy_(noise)

    return plant


def zero_rows(role: str, count: int) -> Plant:
    """Some rows were never copied."""

    def plant(patient: Patient, rng: random.Random) -> None:
        part = patient.part(role)
        part[rng.sample(range(len(part)), count)] = 0

    return plant


def swap_two_rows(role: str) -> Plant:
    """Two rows change places."""

    def plant(patient: Patient, rng: random.Random) -> None:
        part = patient.part(role)
        one, other = rng.sample(range(len(part)), 2)
        part[[one, other]] = part[[other, one]]

    return plant


def roll_rows(role: str, by: int = 1) -> Plant:
    """Every row sits ``by`` places too far down."""
    return lambda patient, rng: assign(patient.part(role), patient.part(role).roll(by, 0))


def round_through(dtype: torch.dtype) -> Plant:
    """All weights are rounded to 16 bits and stored wide again."""

    def plant(patient: Patient, rng: random.Random) -> None:
        for tensor in patient.weights.values():
            tensor.copy_(tensor.to(dtype).to(tensor.dtype))

    return plant


def round_roles(dtype: torch.dtype, *roles: str) -> Plant:
    """The parts of some roles are rounded to 16 bits in every layer and stored wide again."""

    def plant(patient: Patient, rng: random.Random) -> None:
        for name in patient.anatomy.parts:
            if name.rpartition(".")[2] in roles:
                assign(patient.part(name), patient.part(name).to(dtype))

    return plant


def copy_part(source: str, target: str) -> Plant:
    """One part is filled from another."""
    return lambda patient, rng: assign(patient.part(target), patient.part(source))


def zero_part(role: str) -> Plant:
    """The part is lost and reads as zero."""
    return lambda patient, rng: assign(any_part(patient, role, rng), torch.tensor(0.0))


def assign(part: Tensor, values: Tensor) -> None:
    """Overwrite a part, also where ``values`` overlaps it."""
    part.copy_(values.clone())


def any_part(patient: Patient, role: str, rng: random.Random) -> Tensor:
    """The part of that role, in a layer chosen by ``rng`` where the role belongs to layers."""
    if role in patient.anatomy.parts:
        return patient.part(role)
    return patient.part(f"{rng.choice(patient.anatomy.layers_with(role))}.{role}")
