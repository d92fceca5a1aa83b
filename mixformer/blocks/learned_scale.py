"""A learned scale as nGPT has it (Loshchilov et al. 2024, arXiv:2410.01131): a vector w used as w * (init / scaling).

`scaling` sets how fast an optimiser that takes steps of one size moves the effective value; w begins at it, so that the
effective value begins at `init`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor, nn

from mixformer.errors import invalid, unknown_keywords
from mixformer.precision import accumulation_dtype


@dataclass(frozen=True)
class ScaleSpec:
    """What a configuration says of a scale.

    Attributes:
        init: Effective value at the beginning.
        scaling: Value of the tensor at the beginning, not 0.
        used: False for a tensor that a checkpoint holds and no function uses.
    """

    init: float
    scaling: float
    used: bool = True


def scale_spec(entry: object, path: str) -> ScaleSpec:
    """The scale that a configuration describes.

    Raises:
        ConfigurationError: for anything but `{"init": number, "scaling": number other than 0}`, with or without
            `"used": true or false`.
        UnknownKeywordError: for other keys.
    """
    expected = '{"init": number, "scaling": number other than 0}'
    if not isinstance(entry, Mapping):
        raise invalid(path, entry, expected)
    known = {f.name for f in fields(ScaleSpec)}
    if set(entry) - known:
        raise unknown_keywords(path, set(entry) - known, known)
    numbers = (entry.get("init"), entry.get("scaling"))
    if not all(_is_number(value) for value in numbers) or not numbers[1]:
        raise invalid(path, dict(entry), expected)
    if not isinstance(entry.get("used", True), bool):
        raise invalid(f"{path}.used", entry["used"], "true or false")
    return ScaleSpec(**entry)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class LearnedScale(nn.Module):
    """weight * (init / scaling), elementwise on the last dimension. `weight` (size,) keeps the raw values.

    The weight has at least float32 and keeps it when the model is cast to something narrower. One that is not used is a
    buffer: saved, but no optimiser moves it.

    Args:
        size: Number of entries.
        spec: See `ScaleSpec`.
    """

    weight: Tensor

    def __init__(self, size: int, spec: ScaleSpec) -> None:
        super().__init__()
        self.spec = spec
        values = torch.full((size,), float(spec.scaling), dtype=accumulation_dtype(torch.get_default_dtype()))
        if spec.used:
            self.weight = nn.Parameter(values)
        else:
            self.register_buffer("weight", values)

    def effective(self, dtype: torch.dtype) -> Tensor:
        """The factors, (size,), in a dtype of at least float32."""
        return self.weight.to(dtype) * (self.spec.init / self.spec.scaling)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., size) times the factors, in the accumulation dtype and rounded to the dtype of x once.

        A scale that is not used gives x as it is.
        """
        if not self.spec.used:
            return x
        acc = accumulation_dtype(x.dtype)
        return (x.to(acc) * self.effective(acc)).to(x.dtype)

    def extra_repr(self) -> str:
        """Size and spec."""
        return f"{len(self.weight)}, {self.spec}"

    @torch.no_grad()
    def resize(self, size: int) -> None:
        """Keep the first `size` entries, or add new ones that begin as all did."""
        old = self.weight
        new = torch.full((size,), float(self.spec.scaling), dtype=old.dtype, device=old.device)
        kept = min(size, len(old))
        new[:kept] = old[:kept]
        self.weight = nn.Parameter(new, requires_grad=old.requires_grad) if self.spec.used else new

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        return super()._apply(lambda x: _at_least_float32(x, fn(x)), recurse)


def _at_least_float32(before: Tensor, after: Tensor) -> Tensor:
    """`after`, or `before` on its device in float32 if the cast would round it to fewer bits."""
    if not after.is_floating_point() or after.dtype.itemsize >= torch.float32.itemsize:
        return after
    return before.to(device=after.device, dtype=torch.float32)
