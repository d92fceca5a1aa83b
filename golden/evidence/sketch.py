"""Sketches: logits as a few columns instead of a whole vocabulary. Any changed logit still changes a column.

The columns of a position: logsumexp, the largest logits, and random projections. A projection on signs of ±1, divided
by sqrt(vocab), has an error whose expected square is the mean square error of the logits, whichever logit is wrong
(Achlioptas 2003, database-friendly random projections).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ROW_PROJECTIONS = 4
"""Number of columns for a row of an embedding table."""
LEAST_PROJECTIONS = 8


@dataclass(frozen=True)
class Sketch:
    """The sizes of a sketch: logits (tokens, vocab) become columns (tokens, 1 + top + projections)."""

    vocab: int
    top: int
    projections: int
    seed: int = 0

    def largest(self, logits: Tensor) -> Tensor:
        """Ids of the largest logits of the reference at each position, (tokens, top) int32."""
        return logits[:, : self.vocab].topk(self.top).indices.int()

    def columns(self, logits: Tensor, largest: Tensor) -> Tensor:
        """(tokens, 1 + top + projections) float64 of logits (tokens, >= vocab); ``largest`` as the reference has it."""
        values = logits[:, : self.vocab].double()
        top = values.gather(1, largest.long())  # (tokens, top)
        projected = project(values, self.projections, self.seed)  # (tokens, projections)
        return torch.cat((values.logsumexp(-1, keepdim=True), top, projected), dim=1)


def fitting_sketch(vocab: int) -> Sketch | None:
    """About one column per hundred ids, from 10 to 41; None where that is no less than a quarter of the vocabulary.

    Two exchanged rows of the head are hidden from a projection that has one sign for both, half of all pairs. Eight
    projections miss one pair of 256, two missed one of four.
    """
    top, projections = min(8, max(1, vocab // 500)), min(32, max(LEAST_PROJECTIONS, vocab // 150))
    return Sketch(vocab, top, projections) if 4 * (1 + top + projections) < vocab else None


def project(values: Tensor, count: int, seed: int) -> Tensor:
    """(rows, width) onto ``count`` seeded vectors of signs over sqrt(width): (rows, count), in float64.

    Signs come from numpy's legacy generator, whose numbers never change: a seed gives the same signs in every version.
    """
    width = values.shape[-1]
    signs = np.random.RandomState(seed).randint(0, 2, size=(width, count)).astype(np.float64) * 2.0 - 1.0
    projected: Tensor = values.double() @ torch.from_numpy(signs) / math.sqrt(width)
    return projected


def coarse_divergence(true: Tensor, found: Tensor, top: int) -> Tensor:
    """KL at each position between sketched distributions, in nats, (tokens,): the top ids, and all others as one.

    A lower bound of the divergence over the whole vocabulary. Arguments are columns as :class:`Sketch` makes them.
    """
    expected, actual = _coarse_log_probabilities(true, top), _coarse_log_probabilities(found, top)
    return (expected.exp() * (expected - actual)).sum(-1)


def _coarse_log_probabilities(columns: Tensor, top: int) -> Tensor:
    logs = columns[:, 1 : 1 + top] - columns[:, :1]  # (tokens, top)
    rest = (1.0 - logs.exp().sum(-1, keepdim=True)).clamp(min=1e-300)  # (tokens, 1)
    return torch.cat((logs, rest.log()), dim=1)
