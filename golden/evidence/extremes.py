"""Columns that are far larger than the others: measured by their own size, so that they hide nothing in the rest.

Errors are measured in units of the standard deviation of all logits. One head bias of -3.4e38, as some tools write to
forbid a token, makes that deviation 1e37, and any fault is small beside it. Such a column is divided on both sides by
what makes it as large as a common one.
"""

from __future__ import annotations

import torch
from torch import Tensor

ALLOWED = 30.0
"""A column larger than this many times the median column is made smaller. Trained vocabularies stay below it."""


def extremes(reference: Tensor) -> Tensor | None:
    """Divisors of the columns of ``reference`` (rows, columns), float64 (columns,), or None where all are common."""
    sizes = torch.maximum(reference.amax(0), -reference.amin(0)).double()  # (columns,)
    common = sizes[sizes > 0]
    if not len(common):
        return None
    divisors = (sizes / (ALLOWED * common.median())).clamp(min=1.0)
    return divisors if bool((divisors > 1).any()) else None


def without_extremes(candidate: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both arrays (rows, columns) with the reference's extreme columns made as large as common ones."""
    divisors = extremes(reference)
    return (candidate, reference) if divisors is None else (candidate / divisors, reference / divisors)


def divided(values: Tensor, divisors: Tensor | None) -> Tensor:
    """Columns of ``values`` (rows, >= columns) divided; columns beyond the divisors stay as they are."""
    if divisors is None:
        return values
    known = values[:, : len(divisors)].double() / divisors
    return torch.cat((known, values[:, len(divisors) :].double()), dim=1)
