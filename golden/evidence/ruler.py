"""The true logits that a low-precision run is measured against, whether live, on disk or from a golden file."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from golden.evidence.prompts import Prompt


class Truth(Protocol):
    """Prompts, and ways to compare logits (tokens, vocab) with the true logits of a prompt.

    ``pair`` returns (found, true) arrays of equal shape (rows, columns); ``divergence`` takes such a pair and returns
    the Kullback-Leibler divergence at each position, in nats; ``std`` is the scale of errors, None where it is not
    known before.
    """

    @property
    def prompts(self) -> tuple[Prompt, ...]: ...

    @property
    def std(self) -> float | None: ...

    def pair(self, index: int, logits: Tensor) -> tuple[Tensor, Tensor]: ...

    def divergence(self, found: Tensor, true: Tensor) -> Tensor: ...


def common_columns(found: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """Both arrays cut to the columns that both have: a padded vocabulary has more."""
    width = min(found.shape[-1], expected.shape[-1])
    return found[..., :width], expected[..., :width]
