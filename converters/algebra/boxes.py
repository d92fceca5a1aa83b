"""Pieces: strided boxes that say which elements of a source tensor become which elements of a target tensor.

A tensor is a flat, row-major run of elements. A `Piece` says that a block of `shape` elements goes from one set of
strides to another. Three operations on pieces are enough for every move of the algebra:

- `permute` re-orders the axes of a view of the target (a transpose, an order of rows),
- `take` keeps an interval along one axis (a split, a crop),
- `place` puts a tensor into a larger one along one axis (a concat, a pad).

All three first `refine` a piece: cut it until each of its dims moves along a single axis of the view in question.
That is the digit-by-digit arithmetic of a mixed radix, and it is exact for any strides.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod


@dataclass(frozen=True, slots=True)
class Piece:
    """A strided box copied from a source to a target tensor. Offsets and strides count elements, not bytes.

    source: key of the source tensor, or None for a fill with `value` (the bit pattern of one element).
    copy: the elements are also used elsewhere, by name (a tied head written twice).
    """

    source: str | None
    shape: tuple[int, ...]
    source_offset: int
    source_strides: tuple[int, ...]
    target_offset: int
    target_strides: tuple[int, ...]
    value: int = 0
    copy: bool = False

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of a contiguous tensor of `shape`."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def whole(source: str | None, shape: tuple[int, ...], value: int = 0) -> Piece:
    """All elements of a tensor, in place; with `source` None a tensor filled with `value`."""
    count = prod(shape)
    stride = 0 if source is None else 1
    return Piece(source, (count,), 0, (stride,), 0, (1,), value)


def _rebuild(piece: Piece, dims: list[tuple[int, int, int]], source_offset: int, target_offset: int) -> Piece:
    """The piece with new (size, source stride, target stride) dims and offsets."""
    shape, source, target = (tuple(column) for column in zip(*dims, strict=True)) if dims else ((), (), ())
    return replace(
        piece,
        shape=shape,
        source_strides=source,
        target_strides=target,
        source_offset=source_offset,
        target_offset=target_offset,
    )


def _dims(piece: Piece) -> list[tuple[int, int, int]]:
    return list(zip(piece.shape, piece.source_strides, piece.target_strides, strict=True))


def narrow(piece: Piece, dim: int, start: int, stop: int) -> Piece:
    """Steps start..stop of one dim of a piece."""
    dims = _dims(piece)
    _, source, target = dims[dim]
    dims[dim] = (stop - start, source, target)
    return _rebuild(piece, dims, piece.source_offset + start * source, piece.target_offset + start * target)


def cut(piece: Piece, dim: int, at: int) -> list[Piece]:
    """The piece in two along a dim: steps before `at` and from it on."""
    return [narrow(piece, dim, 0, at), narrow(piece, dim, at, piece.shape[dim])]


def explode(piece: Piece, dim: int) -> list[Piece]:
    """One piece for each step of a dim, which disappears."""
    single = (narrow(piece, dim, j, j + 1) for j in range(piece.shape[dim]))
    return [normal(one) for one in single]


def factor(piece: Piece, dim: int, inner: int) -> Piece:
    """One dim of n steps as two of n / inner and inner steps."""
    dims = _dims(piece)
    size, source, target = dims[dim]
    dims[dim : dim + 1] = [(size // inner, source * inner, target * inner), (inner, source, target)]
    return _rebuild(piece, dims, piece.source_offset, piece.target_offset)


def normal(piece: Piece) -> Piece:
    """The same elements in the fewest dims, largest target stride first."""
    merged: list[tuple[int, int, int]] = []
    for size, source, target in sorted((d for d in _dims(piece) if d[0] != 1), key=lambda d: -d[2]):
        if merged and merged[-1][1:] == (size * source, size * target):
            merged[-1] = (merged[-1][0] * size, source, target)
        else:
            merged.append((size, source, target))
    return _rebuild(piece, merged, piece.source_offset, piece.target_offset)


@dataclass(frozen=True, slots=True)
class Refined:
    """A piece whose every dim moves along one axis of a view: `axes[k]` by `steps[k]` digits, from `digits`."""

    piece: Piece
    digits: tuple[int, ...]
    axes: tuple[int, ...]
    steps: tuple[int, ...]

    def spread(self, axis: int, skip: int = -1) -> int:
        """How far the dims on an axis reach beyond their first digit, one dim left out."""
        moves = zip(self.piece.shape, self.axes, self.steps, strict=True)
        return sum((n - 1) * q for k, (n, a, q) in enumerate(moves) if a == axis and k != skip)


def refine(piece: Piece, view: tuple[int, ...]) -> Iterator[Refined]:
    """Cuts a piece until it is a box in the digits of `view`, a factorisation of the target's shape."""
    strides = row_major(view)
    open_pieces = [normal(piece)] if piece.count else []
    while open_pieces:
        one = open_pieces.pop()
        parts = _cut_diagonals(one, view, strides)
        if parts is None:
            refined = _assign(one, view, strides)
            parts = _cut_carries(refined, view)
            if parts is None:
                yield refined
                continue
        open_pieces.extend(reversed(parts))


def _axis_of(stride: int, view: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """The axis along which a step of `stride` elements moves."""
    for axis, (size, step) in enumerate(zip(view, strides, strict=True)):
        if step <= stride < step * size:
            return axis
    raise ValueError(f"a step of {stride} elements leaves a tensor of shape {list(view)}")


def _digits(offset: int, view: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(offset // step % size for size, step in zip(view, strides, strict=True))


def _assign(piece: Piece, view: tuple[int, ...], strides: tuple[int, ...]) -> Refined:
    axes = tuple(_axis_of(stride, view, strides) for stride in piece.target_strides)
    steps = tuple(stride // strides[axis] for stride, axis in zip(piece.target_strides, axes, strict=True))
    return Refined(piece, _digits(piece.target_offset, view, strides), axes, steps)


def _cut_diagonals(piece: Piece, view: tuple[int, ...], strides: tuple[int, ...]) -> list[Piece] | None:
    """Cuts the first dim that moves along two axes at once or runs over the end of its axis; None if none does."""
    digits = _digits(piece.target_offset, view, strides)
    for dim, (size, stride) in enumerate(zip(piece.shape, piece.target_strides, strict=True)):
        axis = _axis_of(stride, view, strides)
        if stride % strides[axis]:
            return explode(piece, dim)
        step = stride // strides[axis]
        room = (view[axis] - 1 - digits[axis]) // step + 1  # steps until the digit carries
        if size > room:
            return _cut_at_carry(piece, dim, room, exact=digits[axis] < step and view[axis] % step == 0)
    return None


def _cut_at_carry(piece: Piece, dim: int, room: int, *, exact: bool) -> list[Piece]:
    size = piece.shape[dim]
    if not exact:
        return cut(piece, dim, room)
    if size % room:
        return cut(piece, dim, size - size % room)
    return [factor(piece, dim, room)]


def _cut_carries(refined: Refined, view: tuple[int, ...]) -> list[Piece] | None:
    """Cuts where several dims on one axis together run over its end; None if they do not."""
    for axis in set(refined.axes):
        if refined.digits[axis] + refined.spread(axis) < view[axis]:
            continue
        dim = max((k for k, a in enumerate(refined.axes) if a == axis), key=lambda k: refined.steps[k])
        free = view[axis] - 1 - refined.digits[axis] - refined.spread(axis, skip=dim)
        room = free // refined.steps[dim] + 1
        return cut(refined.piece, dim, room) if room >= 1 else explode(refined.piece, dim)
    return None


def _moved(refined: Refined, strides: tuple[int, ...], shift: tuple[int, ...]) -> Piece:
    """The piece with its digits, less `shift`, counted in new strides per axis."""
    digits = (digit - by for digit, by in zip(refined.digits, shift, strict=True))
    offset = sum(digit * stride for digit, stride in zip(digits, strides, strict=True))
    target = tuple(step * strides[axis] for step, axis in zip(refined.steps, refined.axes, strict=True))
    return normal(replace(refined.piece, target_offset=offset, target_strides=target))


def permute(piece: Piece, view: tuple[int, ...], order: tuple[int, ...]) -> Iterator[Piece]:
    """The piece in a target whose view has its axes in `order` (new axis j is old axis order[j])."""
    new = row_major(tuple(view[axis] for axis in order))
    strides = tuple(new[order.index(axis)] for axis in range(len(view)))
    for refined in refine(piece, view):
        yield _moved(refined, strides, (0,) * len(view))


def _around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """A shape as (elements before, size of, elements after) an axis."""
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


def take(piece: Piece, shape: tuple[int, ...], axis: int, start: int, stop: int) -> Iterator[Piece]:
    """What of a piece lies in start..stop of an axis, in a target cut down to that interval."""
    view = _around(shape, axis)
    strides = row_major((view[0], stop - start, view[2]))
    for refined in refine(piece, view):
        for inside in _clip(refined, start, stop):
            yield _moved(inside, strides, (0, start, 0))


def place(piece: Piece, shape: tuple[int, ...], axis: int, start: int, size: int) -> Iterator[Piece]:
    """The piece in a target whose axis has `size` entries, of which this tensor begins at `start`."""
    view = _around(shape, axis)
    strides = row_major((view[0], size, view[2]))
    for refined in refine(piece, view):
        yield _moved(refined, strides, (0, -start, 0))


def _clip(refined: Refined, start: int, stop: int) -> Iterator[Refined]:
    """The parts of a refined piece whose digit on axis 1 lies in start..stop."""
    first = refined.digits[1]
    if start <= first and first + refined.spread(1) < stop:
        yield refined
        return
    if first >= stop or first + refined.spread(1) < start:
        return
    dim = max((k for k, a in enumerate(refined.axes) if a == 1), key=lambda k: refined.steps[k])
    step, rest, size = refined.steps[dim], refined.spread(1, skip=dim), refined.piece.shape[dim]
    inner = max(0, -(-(start - first) // step))  # first step that lies inside as a whole
    outer = min(size, (stop - 1 - rest - first) // step + 1)  # one behind the last of them
    low = max(0, -(-(start - rest - first) // step))  # first step that reaches inside
    high = min(size, (stop - 1 - first) // step + 1)  # one behind the last of them
    ragged = (*range(low, inner), *range(outer, high)) if inner < outer else range(low, high)
    runs = [(inner, outer)] if inner < outer else []
    runs += [(j, j + 1) for j in ragged]
    for j, end in runs:
        yield from _clip(_step(refined, dim, j, end), start, stop)


def _step(refined: Refined, dim: int, start: int, stop: int) -> Refined:
    digits = list(refined.digits)
    digits[refined.axes[dim]] += start * refined.steps[dim]
    piece = narrow(refined.piece, dim, start, stop)
    if stop - start > 1:
        return replace(refined, piece=piece, digits=tuple(digits))
    keep = [k for k in range(len(refined.axes)) if k != dim]
    dims = [_dims(piece)[k] for k in keep]
    return Refined(
        _rebuild(piece, dims, piece.source_offset, piece.target_offset),
        tuple(digits),
        tuple(refined.axes[k] for k in keep),
        tuple(refined.steps[k] for k in keep),
    )
