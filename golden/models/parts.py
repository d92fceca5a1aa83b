"""A part of a model: rows of a tensor in its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

ConfigPath = tuple[str | int, ...]
Dials = Mapping[str, tuple[ConfigPath, ...]]


@dataclass(frozen=True)
class Part:
    """Rows ``start`` to ``start + size`` of the tensor ``key``; all of it where ``size`` is None.

    ``turned``: the tensor is stored as (inputs, outputs), and its columns are meant.
    """

    key: str
    start: int = 0
    size: int | None = None
    turned: bool = False

    def view(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The part as a view: writing to it changes the weights."""
        tensor = weights[self.key].T if self.turned else weights[self.key]
        return tensor if self.size is None else tensor[self.start : self.start + self.size]
