"""Error of a candidate against a reference, added up prompt by prompt: one prompt's logits are in memory at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from golden.verdict import Reading

QUARTERS = 4


@dataclass
class ErrorMeter:
    """Adds up squared and largest errors, and divides by the standard deviation of all reference values at the end.

    All prompts share one scale, so that small logits make a prompt look neither better nor worse.
    """

    nonfinite: int = 0
    _rows: list[tuple[str, int, list[tuple[float, float, int]]]] = field(default_factory=list)
    _count: int = 0
    _sum: float = 0.0
    _squares: float = 0.0

    def add(self, name: str, candidate: Tensor, reference: Tensor) -> None:
        """Add two arrays of equal shape (tokens, features)."""
        quarters = []
        for found, expected in zip(_quarters(candidate), _quarters(reference), strict=True):
            truth = expected.double()
            error = found.double() - truth
            self.nonfinite += int((~torch.isfinite(found)).sum())
            quarters.append((float(error.square().sum()), float(error.abs().max()), error.numel()))
            self._count += truth.numel()
            self._sum += float(truth.sum())
            self._squares += float(truth.square().sum())
        self._rows.append((name, candidate.shape[0], quarters))

    @property
    def std(self) -> float:
        """Standard deviation of every reference value seen."""
        if not self._count:
            return 0.0
        mean = self._sum / self._count
        return math.sqrt(max(0.0, self._squares / self._count - mean * mean))

    def total(self, name: str = "all", std: float | None = None) -> Reading:
        """All prompts as one reading; ``std`` replaces the measured scale."""
        quarters = [part for _, _, parts in self._rows for part in parts]
        tokens = sum(tokens for _, tokens, _ in self._rows)
        return Reading(name, tokens, *_relative(quarters, self.std if std is None else std))

    def readings(self, std: float | None = None) -> tuple[Reading, ...]:
        """One reading per prompt, with the rms of each quarter of its positions."""
        scale = self.std if std is None else std
        return tuple(
            Reading(name, tokens, *_relative(parts, scale), tuple(_relative([part], scale)[0] for part in parts))
            for name, tokens, parts in self._rows
        )


def _quarters(values: Tensor) -> tuple[Tensor, ...]:
    """(tokens, features) cut into at most four runs of positions."""
    return torch.tensor_split(values, min(QUARTERS, values.shape[0]))


def _relative(parts: list[tuple[float, float, int]], std: float) -> tuple[float, float]:
    """(rms, max) over the parts in units of ``std``; infinite where the error is not finite."""
    squares, largest, count = (
        sum(p[0] for p in parts),
        max((p[1] for p in parts), default=0.0),
        sum(p[2] for p in parts),
    )
    if not math.isfinite(squares) or any(not math.isfinite(p[1]) for p in parts):
        return math.inf, math.inf
    if squares == 0.0:
        return 0.0, 0.0
    if std == 0.0:
        return math.inf, math.inf
    return math.sqrt(squares / count) / std, largest / std
