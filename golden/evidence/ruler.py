"""What is needed of a reference to measure a low-precision run, whether it is live, spilled or in a golden file."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from golden.evidence.prompts import Prompt


class Truth(Protocol):
    """Prompts, and ways to hold logits (tokens, vocab) against the true ones of a prompt.

    ``pair`` returns (found, true) arrays of equal shape (rows, columns); ``divergence`` takes such a pair and returns
    the Kullback-Leibler divergence at each position, in nats; ``std`` is the scale of errors, None where it is measured
    on the way.
    """

    @property
    def prompts(self) -> tuple[Prompt, ...]: ...

    @property
    def std(self) -> float | None: ...

    def pair(self, index: int, logits: Tensor) -> tuple[Tensor, Tensor]: ...

    def divergence(self, found: Tensor, true: Tensor) -> Tensor: ...
