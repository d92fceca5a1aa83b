"""Error of a candidate against a reference, added up prompt by prompt: one prompt's logits are in memory at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from golden.verdict import Reading

QUARTERS, PARTS = 4, 32
"""Runs of positions that are read on their own: a few for words, many for a picture."""
Sums = tuple[Tensor, Tensor, int]
"""Squared error and largest error of each position, (tokens,) each, and the number of features."""


@dataclass
class ErrorMeter:
    """Adds up squared and largest errors, and divides by the standard deviation of all reference values at the end.

    All prompts share one scale, so that small logits make a prompt look neither better nor worse.
    """

    nonfinite: int = 0
    _rows: list[tuple[str, Sums]] = field(default_factory=list)
    _count: int = 0
    _sum: float = 0.0
    _squares: float = 0.0

    def add(self, name: str, candidate: Tensor, reference: Tensor) -> None:
        """Add two arrays of equal shape (tokens, features)."""
        squares, largest = [], []
        for found, expected in zip(_runs(candidate, QUARTERS), _runs(reference, QUARTERS), strict=True):
            truth = expected.double()
            error = found.double() - truth
            self.nonfinite += int((~torch.isfinite(found)).sum())
            squares.append(error.square().sum(-1))
            largest.append(error.abs().amax(-1))
            self._count += truth.numel()
            self._sum += float(truth.sum())
            self._squares += float(truth.square().sum())
        self._rows.append((name, (torch.cat(squares), torch.cat(largest), candidate.shape[-1])))

    @property
    def std(self) -> float:
        """Standard deviation of every reference value seen."""
        if not self._count:
            return 0.0
        mean = self._sum / self._count
        return math.sqrt(max(0.0, self._squares / self._count - mean * mean))

    def total(self, name: str = "all", std: float | None = None) -> Reading:
        """All prompts as one reading; ``std`` replaces the measured scale."""
        sums = [sums for _, sums in self._rows]
        tokens = sum(len(squares) for squares, _, _ in sums)
        return Reading(name, tokens, *_relative(sums, self.std if std is None else std))

    def readings(self, std: float | None = None) -> tuple[Reading, ...]:
        """One reading per prompt, with the rms of each quarter of its positions."""
        scale = self.std if std is None else std
        return tuple(
            Reading(
                name,
                len(sums[0]),
                *_relative([sums], scale),
                _by_run(sums, QUARTERS, scale),
                _by_run(sums, PARTS, scale),
            )
            for name, sums in self._rows
        )


def _runs(values: Tensor, most: int) -> tuple[Tensor, ...]:
    """(tokens, ...) cut into at most so many runs of positions."""
    return torch.tensor_split(values, min(most, values.shape[0]))


def _by_run(sums: Sums, most: int, std: float) -> tuple[float, ...]:
    """The rms of each run of positions, at most so many."""
    runs = zip(_runs(sums[0], most), _runs(sums[1], most), strict=True)
    return tuple(_relative([(squares, largest, sums[2])], std)[0] for squares, largest in runs)


def _relative(parts: list[Sums], std: float) -> tuple[float, float]:
    """(rms, max) over the parts in units of ``std``; infinite where the error is not finite."""
    squares = sum(float(part[0].sum()) for part in parts)
    largest = max((float(part[1].max()) for part in parts), default=0.0)
    count = sum(len(part[0]) * part[2] for part in parts)
    if not math.isfinite(squares) or not math.isfinite(largest):
        return math.inf, math.inf
    if squares == 0.0:
        return 0.0, 0.0
    if std == 0.0:
        return math.inf, math.inf
    return math.sqrt(squares / count) / std, largest / std
