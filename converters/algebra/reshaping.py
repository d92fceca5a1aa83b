"""The seventh move: a vector as a matrix of its rows, and back (decision 0012). No element moves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from converters.algebra.dims import Dims, describe
from converters.algebra.views import Move, Moved, View
from converters.errors import ShapeMismatch


@dataclass(frozen=True)
class Flatten:
    """A matrix of `rows` by `columns` as a vector, row after row."""

    rows: str
    columns: str
    takes: int = 1
    gives: int = 1

    @cached_property
    def inverse(self) -> Move:
        """The vector as that matrix."""
        return Unflatten(self.rows, self.columns)

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        (view,) = views
        rows, columns = dims[self.rows], dims[self.columns]
        if view.shape != (rows, columns):
            raise ShapeMismatch(f"a tensor has shape {describe(view.shape)}, expected {describe((rows, columns))}")
        return Moved((replace(view, shape=(rows * columns,)),))


@dataclass(frozen=True)
class Unflatten:
    """A vector as a matrix of `rows` by `columns`, row after row."""

    rows: str
    columns: str
    takes: int = 1
    gives: int = 1

    @cached_property
    def inverse(self) -> Move:
        """The matrix as a vector."""
        return Flatten(self.rows, self.columns)

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        (view,) = views
        rows, columns = dims[self.rows], dims[self.columns]
        if view.shape != (rows * columns,):
            expected = f"{describe((rows,))[1:-1]} times {describe((columns,))[1:-1]}"
            raise ShapeMismatch(f"a tensor has shape {describe(view.shape)}, expected {expected} elements in a row")
        return Moved((replace(view, shape=(rows, columns)),))
