"""Six of the seven moves, each with its inverse: transpose, order of rows, concat and split, pad and crop, tie and
untie, fill and vanish. The seventh is in `flatten.py`; an eighth needs a decision record."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from converters.algebra.boxes import Piece, permute, place, take, whole
from converters.algebra.dims import Dims, describe
from converters.algebra.padding import pattern
from converters.algebra.views import Check, Move, Moved, View
from converters.errors import HeadDiffers, NotInvertible, ShapeMismatch


@dataclass(frozen=True)
class Transpose:
    """A matrix with its two axes exchanged."""

    takes: int = 1
    gives: int = 1

    @property
    def inverse(self) -> Move:
        """Itself."""
        return self

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        (view,) = views
        if len(view.shape) != 2:
            raise ShapeMismatch(f"only a matrix can be transposed, this tensor has shape {describe(view.shape)}")
        rows, columns = view.shape
        pieces = tuple(p for piece in view.pieces for p in permute(piece, view.shape, (1, 0)))
        return Moved((View((columns, rows), view.dtype, pieces),))


@dataclass(frozen=True)
class Rows:
    """Axis 0 seen as a grid of `factors` (names or numbers) whose axes are put into `order`, and flattened again.

    `Rows(("n_head", "half", 2), (0, 2, 1))` gathers the even rows of each head before the odd ones: from interleaved
    rotary pairs to half-split ones.
    """

    factors: tuple[str | int, ...]
    order: tuple[int, ...]
    takes: int = 1
    gives: int = 1

    @cached_property
    def inverse(self) -> Move:
        """The order that puts every row back."""
        back = tuple(self.order.index(axis) for axis in range(len(self.order)))
        return Rows(tuple(self.factors[axis] for axis in self.order), back)

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        (view,) = views
        grid = tuple(dims[f] if isinstance(f, str) else f for f in self.factors)
        if prod(grid) != view.shape[0]:
            raise ShapeMismatch(f"{view.shape[0]} rows cannot be read as the grid {describe(grid)}")
        columns = prod(view.shape[1:])
        order = (*self.order, len(grid))
        pieces = tuple(p for piece in view.pieces for p in permute(piece, (*grid, columns), order))
        return Moved((replace(view, pieces=pieces),))


@dataclass(frozen=True)
class Concat:
    """Several tensors one after the other along an axis, each of a named size there."""

    sizes: tuple[str, ...]
    axis: int = 0

    @property
    def takes(self) -> int:
        """One tensor for each size."""
        return len(self.sizes)

    @property
    def gives(self) -> int:
        """One."""
        return 1

    @cached_property
    def inverse(self) -> Move:
        """The split at the same sizes."""
        return Split(self.sizes, self.axis)

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        sizes = [dims[name] for name in self.sizes]
        first = views[0]
        for view, size in zip(views, sizes, strict=True):
            expected = (*first.shape[: self.axis], size, *first.shape[self.axis + 1 :])
            if view.shape != expected:
                raise ShapeMismatch(
                    f"a part to concatenate has shape {describe(view.shape)}, expected {describe(expected)}"
                )
            if view.dtype != first.dtype:
                raise ShapeMismatch(
                    f"parts of one tensor have dtypes {first.dtype} and {view.dtype};"
                    " save the source with these tensors in one dtype first"
                )
        total, start, pieces = sum(sizes), 0, list[Piece]()
        for view, size in zip(views, sizes, strict=True):
            pieces += (p for piece in view.pieces for p in place(piece, view.shape, self.axis, start, total))
            start += size
        return Moved(
            (View((*first.shape[: self.axis], total, *first.shape[self.axis + 1 :]), first.dtype, tuple(pieces)),)
        )


@dataclass(frozen=True)
class Split:
    """One tensor cut along an axis into parts of named sizes."""

    sizes: tuple[str, ...]
    axis: int = 0

    @property
    def takes(self) -> int:
        """One."""
        return 1

    @property
    def gives(self) -> int:
        """One tensor for each size."""
        return len(self.sizes)

    @cached_property
    def inverse(self) -> Move:
        """The concatenation of the same sizes."""
        return Concat(self.sizes, self.axis)

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        (view,) = views
        sizes = [dims[name] for name in self.sizes]
        if sum(sizes) != view.shape[self.axis]:
            raise ShapeMismatch(
                f"axis {self.axis} of {describe(view.shape)} should have {' + '.join(map(_named, sizes))} elements"
            )
        starts = [sum(sizes[:k]) for k in range(len(sizes))]
        return Moved(tuple(_cut(view, self.axis, start, size) for start, size in zip(starts, sizes, strict=True)))


def _named(size: int) -> str:
    return describe((size,))[1:-1]


def _cut(view: View, axis: int, start: int, size: int) -> View:
    pieces = (p for piece in view.pieces for p in take(piece, view.shape, axis, start, start + size))
    return View((*view.shape[:axis], size, *view.shape[axis + 1 :]), view.dtype, tuple(pieces))


@dataclass(frozen=True)
class Pad:
    """Rows added after the last row, from size `rows` to size `to`: zeros, or the value `LOW` of the dtype."""

    rows: str
    to: str
    low: bool = False
    takes: int = 1
    gives: int = 1

    @cached_property
    def inverse(self) -> Move:
        """The crop of these rows, which must be what was added."""
        return Crop(self.rows, self.to, self.low)

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        (view,) = views
        rows, to = dims[self.rows], dims[self.to]
        if view.shape[0] != rows or to < rows:
            raise ShapeMismatch(f"{_named(view.shape[0])} rows cannot be padded from {_named(rows)} to {_named(to)}")
        if rows == to:
            return Moved((view,))
        added = replace(whole(None, (to - rows, *view.shape[1:])), value=pattern(view.dtype, low=self.low))
        padded = [*view.pieces]
        padded += place(added, (to - rows, *view.shape[1:]), 0, rows, to)
        return Moved((View((to, *view.shape[1:]), view.dtype, tuple(padded)),))


@dataclass(frozen=True)
class Crop:
    """Rows of padding removed at the end, from size `to` to size `rows`; they must be zero, or the value `LOW`."""

    rows: str
    to: str
    low: bool = False
    takes: int = 1
    gives: int = 1

    @cached_property
    def inverse(self) -> Move:
        """The padding of these rows."""
        return Pad(self.rows, self.to, self.low)

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        (view,) = views
        rows, to = dims[self.rows], dims[self.to]
        if view.shape[0] != to or to < rows:
            raise ShapeMismatch(f"{_named(view.shape[0])} rows cannot be cropped from {_named(to)} to {_named(rows)}")
        if rows == to:
            return Moved((view,))
        kept, rest = _cut(view, 0, 0, rows), _cut(view, 0, rows, to - rows)
        why = f"rows {rows}..{to - 1} are padding and should be {'-30000' if self.low else 'zero'}"
        remedy = f"a model that was trained has other values there; --crop-vocab {rows} cuts them off"
        checks = _constant(rest, pattern(view.dtype, low=self.low), why)
        return Moved((kept,), tuple(replace(check, remedy=remedy) for check in checks))


def _constant(view: View, value: int, why: str) -> tuple[Check, ...]:
    """The checks of a view that should hold one bit pattern: none, if it is made of fills with it."""
    if any(piece.source is None and piece.value != value for piece in view.pieces):
        raise NotInvertible(f"{why}, but are not")
    return (Check(view, why, value),) if any(piece.source is not None for piece in view.pieces) else ()


@dataclass(frozen=True)
class Tie:
    """Two equal tensors become one."""

    takes: int = 2
    gives: int = 1

    @property
    def inverse(self) -> Move:
        """One tensor written twice."""
        return Untie()

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        kept, other = views
        if kept.shape != other.shape or kept.dtype != other.dtype:
            raise HeadDiffers(
                f"copies of one tensor should be equal, but are {kept.dtype} {describe(kept.shape)}"
                f" and {other.dtype} {describe(other.shape)}"
            )
        return Moved((kept,), (Check(other, "copies of one tensor should be equal", equal=kept),))


@dataclass(frozen=True)
class Untie:
    """One tensor written twice."""

    takes: int = 1
    gives: int = 2

    @property
    def inverse(self) -> Move:
        """Two equal tensors become one."""
        return Tie()

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        (view,) = views
        again = tuple(replace(piece, copy=True) for piece in view.pieces)
        return Moved((view, replace(view, pieces=again)))


@dataclass(frozen=True)
class Fill:
    """A tensor that one side does not have: `shape` by name, every element the bit pattern `value`."""

    shape: tuple[str, ...]
    dtype: str
    value: int = 0
    takes: int = 0
    gives: int = 1

    @cached_property
    def inverse(self) -> Move:
        """The tensor vanishes, if it holds nothing but that value."""
        return Vanish(self.shape, self.dtype, self.value)

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        shape = tuple(dims[name] for name in self.shape)
        return Moved((View(shape, self.dtype, (whole(None, shape, self.value),)),))


@dataclass(frozen=True)
class Vanish:
    """A tensor that the other side does not have, because every element is the bit pattern `value`."""

    shape: tuple[str, ...]
    dtype: str
    value: int = 0
    takes: int = 1
    gives: int = 0

    @cached_property
    def inverse(self) -> Move:
        """The tensor, made again."""
        return Fill(self.shape, self.dtype, self.value)

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        (view,) = views
        expected = tuple(dims[name] for name in self.shape)
        if view.shape != expected or view.dtype != self.dtype:
            found = f"{view.dtype} {describe(view.shape)}"
            raise NotInvertible(f"a {self.dtype} tensor {describe(expected)} was expected, this one is {found}")
        return Moved((), _constant(view, self.value, f"every element should have the bit pattern {self.value:#x}"))
