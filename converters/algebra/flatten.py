"""The seventh move: a tensor with several axes as a vector, and back. See decision 0012.

No element moves: both tensors are the same row-major run of elements. Only the shape that headers say is another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from converters.algebra.dims import Dims, describe
from converters.algebra.views import Move, Moved, View
from converters.errors import ShapeMismatch

Grid = tuple[str | int, ...]


@dataclass(frozen=True)
class Flatten:
    """A tensor whose axes are the sizes of `grid` (names or numbers) as a vector of its elements, in their order."""

    grid: Grid
    takes: int = 1
    gives: int = 1

    @cached_property
    def inverse(self) -> Move:
        """The axes again."""
        return Fold(self.grid)

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        (view,) = views
        axes = _axes(self.grid, dims)
        if view.shape != axes:
            raise ShapeMismatch(f"a tensor {describe(view.shape)} should have the axes {describe(axes)}")
        return Moved((replace(view, shape=(prod(axes),)),))


@dataclass(frozen=True)
class Fold:
    """A vector as a tensor whose axes are the sizes of `grid` (names or numbers); its elements keep their order."""

    grid: Grid
    takes: int = 1
    gives: int = 1

    @cached_property
    def inverse(self) -> Move:
        """One axis again."""
        return Flatten(self.grid)

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        (view,) = views
        axes = _axes(self.grid, dims)
        if len(view.shape) != 1 or view.shape[0] != prod(axes):
            raise ShapeMismatch(f"a tensor {describe(view.shape)} cannot be read as the axes {describe(axes)}")
        return Moved((replace(view, shape=axes),))


def _axes(grid: Grid, dims: Dims) -> tuple[int, ...]:
    return tuple(dims[size] if isinstance(size, str) else size for size in grid)
