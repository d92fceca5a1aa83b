"""What was found about some parts of a candidate, and how it is undone there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from golden.models.parts import Part
from golden.weights.orders import Index
from golden.weights.sides import Numbers, Sides, split_role

REFERENCE = "the values of the reference"


@dataclass(frozen=True)
class Edit:
    """New values for a part, or for some of its rows. They are read when they are asked for."""

    part: Part
    values: Callable[[], Numbers]
    rows: Index | None = None

    def apply(self, weights: Mapping[str, Tensor]) -> None:
        """Write the values into weights, in their own dtype."""
        view = self.part.view(weights)
        view = view.reshape(1) if view.ndim == 0 else view
        values = torch.from_numpy(np.array(self.values())).to(view.dtype)
        rows = slice(None) if self.rows is None else torch.from_numpy(np.array(self.rows))
        view[rows] = values.reshape(view[rows].shape)


@dataclass(frozen=True)
class Fact:
    """One statement about parts of the candidate.

    Attributes:
        claim: a sentence without its layers.
        undo: what is applied to undo it, in a few words.
        roles: the parts that it is about.
        edits: the undoing; every value that it writes is bit for bit what the mapping gives.
        computed: where ``edits`` take values of the reference though the candidate's own numbers would do: the undoing
            by a computation, which leaves the rounding of the stored dtype.
        layers: the layers that the claim is about; empty where it names them itself or there are none.
    """

    claim: str
    undo: str
    roles: tuple[str, ...]
    edits: tuple[Edit, ...] = ()
    computed: tuple[Edit, ...] = ()
    layers: tuple[int, ...] = ()
    names: tuple[str, ...] = field(default=(), compare=False)


def from_reference(sides: Sides, role: str, rows: Index | None = None) -> Edit:
    """The reference's values of a part, or of some rows."""
    part = sides.parts[role]

    def values() -> Numbers:
        found = sides.truth.part(part)
        return found if rows is None else found[rows]

    return Edit(part, values, rows)


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def numbered(numbers: Iterable[int], most: int = 8) -> str:
    """``3``, ``0 and 4``, ``0-3, 7 and 9``; long lists end with how many more there are."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    words = [str(a) if a == b else f"{a}-{b}" if b > a + 1 else f"{a}, {b}" for a, b in runs]
    if len(words) > most:
        rest = sum(b - a + 1 for a, b in runs[most:])
        return f"{', '.join(words[:most])} and {rest} more"
    return listed(", ".join(words).split(", "))


def called(roles: Iterable[str]) -> str:
    """Names of parts, without those of biases and scales whose matrix is named, too."""
    names = list(dict.fromkeys(split_role(role)[1] for role in roles))
    beside = {
        kind: [n for n in names if n.endswith(f"_{kind}") and n.removesuffix(f"_{kind}") in names]
        for kind in ("bias", "scale")
    }
    bare = [name for name in names if not any(name in found for found in beside.values())]
    words = {"bias": "biases", "scale": "scales"}
    extra = [words[kind] for kind, found in beside.items() if found]
    if len(bare) == 1 and extra:
        return listed([*bare, *(f"its {kind}" for kind, found in beside.items() if found)])
    return listed(bare) + (f", with their {listed(extra)}," if extra else "")


def in_layers(layers: Sequence[int], count: int, claim: str) -> str:
    """A claim with its layers."""
    if not layers:
        return claim
    if len(layers) == count and count > 1:
        return f"{claim} in all layers"
    return f"layer{'s' if len(layers) > 1 else ''} {numbered(layers)}: {claim}"
