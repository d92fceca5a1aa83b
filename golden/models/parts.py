"""A part of a model: rows of a tensor in its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


EXPERTS = {"router": "router", "experts_fc1": "experts.fc1", "experts_fc2": "experts.fc2"} | {
    "shared_fc1": "shared.fc1",
    "shared_fc2": "shared.fc2",
    "shared_gate": "shared_gate",
}
"""Role in a layer -> name under the MLP, of a mixture of experts."""
EXPERT_DIALS = ("norm_topk", "n_active", "shared_gate")


def expert_parts(n_layer: int) -> Iterator[tuple[str, Part]]:
    """(role, part) of every matrix of a MixFormer's mixtures of experts."""
    for i in range(n_layer):
        for role, name in EXPERTS.items():
            yield f"{i}.{role}", Part(f"layers.{i + 1}.mlp.{name}.weight")
