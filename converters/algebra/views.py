"""Moves: how tensors of one side become tensors of the other, as functions on strided boxes.

A `View` describes a tensor that will be written: its shape, its dtype and its pieces. A move takes views and gives
views; it reads no element. Every move is a partial bijection with an `inverse`. What the inverse cannot know from
headers alone (that padding rows are zero, that two heads are equal) becomes a `Check`, which is done on the data before
a byte is written.

Sizes are names in `Dims`; a move computes no sizes, and has no flags and no state. Here are the ways to combine
moves (in sequence, side by side, in another order); the moves themselves are in `moves.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

from converters.algebra.boxes import Piece, whole
from converters.algebra.dims import Dims


@dataclass(frozen=True)
class View:
    """A tensor that will be written: `shape`, safetensors `dtype` name, and its pieces."""

    shape: tuple[int, ...]
    dtype: str
    pieces: tuple[Piece, ...]

    @classmethod
    def of(cls, key: str, shape: Sequence[int], dtype: str) -> "View":
        """The tensor stored under `key`, as it is."""
        return cls(tuple(shape), dtype, (whole(key, tuple(shape)),))


@dataclass(frozen=True)
class Check:
    """Elements that a move reads and does not write.

    `equal` None: every element of `view` has the bit pattern that its fill pieces or `value` say.
    Otherwise: the elements of `view` equal those of `equal`, bit for bit. remedy: what to do where that is not so.
    """

    view: View
    why: str
    value: int = 0
    equal: View | None = None
    remedy: str = ""


class Moved(NamedTuple):
    """The result of a move: views, and the checks that make it lossless."""

    views: tuple[View, ...]
    checks: tuple[Check, ...] = ()


class Move(Protocol):
    """A partial bijection between tuples of views."""

    @property
    def takes(self) -> int:
        """How many tensors go in."""
        ...

    @property
    def gives(self) -> int:
        """How many tensors come out."""
        ...

    @property
    def inverse(self) -> "Move":
        """The move that undoes this one, bit for bit, on every result of it."""
        ...

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        """Applies the move.

        Raises:
            ShapeMismatch: a view has other sizes than the move's names say.
            NotInvertible: the inverse of this move cannot give these views.
        """
        ...


@dataclass(frozen=True)
class Same:
    """One tensor, untouched: a change of name."""

    takes: int = 1
    gives: int = 1

    @property
    def inverse(self) -> Move:
        """Itself."""
        return self

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        return Moved(tuple(views))


@dataclass(frozen=True)
class Reorder:
    """The same tensors in another order: the k-th that comes out is the `order[k]`-th that went in."""

    order: tuple[int, ...]

    @property
    def takes(self) -> int:
        """As many as are ordered."""
        return len(self.order)

    @property
    def gives(self) -> int:
        """The same number."""
        return len(self.order)

    @cached_property
    def inverse(self) -> Move:
        """The order that puts each back."""
        return Reorder(tuple(self.order.index(k) for k in range(len(self.order))))

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        return Moved(tuple(views[k] for k in self.order))


@dataclass(frozen=True)
class Then:
    """Moves in sequence."""

    moves: tuple[Move, ...]

    @property
    def takes(self) -> int:
        """What the first takes."""
        return self.moves[0].takes

    @property
    def gives(self) -> int:
        """What the last gives."""
        return self.moves[-1].gives

    @cached_property
    def inverse(self) -> Move:
        """The inverses, last first."""
        return Then(tuple(move.inverse for move in reversed(self.moves)))

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        now, checks = tuple(views), list[Check]()
        for move in self.moves:
            now, new = move(now, dims)
            checks += new
        return Moved(now, tuple(checks))


@dataclass(frozen=True)
class Each:
    """Moves side by side, each on its own tensors."""

    moves: tuple[Move, ...]

    @property
    def takes(self) -> int:
        """What all take together."""
        return sum(move.takes for move in self.moves)

    @property
    def gives(self) -> int:
        """What all give together."""
        return sum(move.gives for move in self.moves)

    @cached_property
    def inverse(self) -> Move:
        """The inverses, side by side."""
        return Each(tuple(move.inverse for move in self.moves))

    def __call__(self, views: Sequence[View], dims: Dims) -> Moved:
        out, checks, rest = list[View](), list[Check](), list(views)
        for move in self.moves:
            moved = move(rest[: move.takes], dims)
            del rest[: move.takes]
            out += moved.views
            checks += moved.checks
        return Moved(tuple(out), tuple(checks))
