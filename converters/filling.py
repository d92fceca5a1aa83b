"""A tile's elements taken from their files: in long ranges, into a small space, and from there to their places.

Elements are unsigned integers of the dtype's width, so every dtype, also one numpy does not know, passes untouched. A
box is cut until what it needs of its file fits the space. Where neighbours in the file go to different rows, each row
of the file gets a place of its own that begins an odd number of cache lines behind the last: at a distance of a power
of two a column of them would meet in one set of the cache, and a transpose be three to ten times slower.

Runs that lie far apart are copied out of a mapping of the file, by numpy and many at a time: that costs half of a
system call for each. Everything else is read, for a page fault costs more than the reading of its page.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from converters.boxes import Piece, narrow

if TYPE_CHECKING:
    import numpy as np

    Elements = np.ndarray[Any, np.dtype[np.unsignedinteger]]

SPACE = 1 << 20  # bytes read at once
GAP = 4 << 10  # bytes that are read for nothing rather than skipped
SHORT = 1 << 10  # bytes of a row below which it gets no place of its own
SIDE = 32  # rows that go into the space at least, so that they are written in runs of as many elements
LINE = 64  # bytes of a cache line
MOST_VIEWS = 1024  # of one preadv(2)


class Source(Protocol):
    """Bytes of tensors by key."""

    def read_tensor(self, key: str, begin: int, into: Sequence[memoryview]) -> None:
        """Fills views with the bytes of a tensor from `begin` on, as they are stored."""
        ...

    def mapped(self, key: str) -> memoryview:
        """All bytes of a tensor, mapped into memory."""
        ...


def fill(pieces: Sequence[Piece], width: int, out: memoryview, space: memoryview, source: Source) -> None:
    """Puts the elements of pieces, of `width` bytes each, into `out`.

    space: SPACE + GAP bytes to read into.
    """
    for piece in pieces:
        if piece.source is None:
            _view(out, width, piece.target_offset, piece.shape, piece.target_strides)[...] = piece.value
            continue
        for part in _fitting(_by_source(piece), width):
            target = _view(out, width, part.target_offset, part.shape, part.target_strides)
            target[...] = _loaded(part, width, space, source)


def _view(data: memoryview, width: int, offset: int, shape: Sequence[int], strides: Sequence[int]) -> "Elements":
    """Elements in a buffer; offset and strides in elements."""
    import numpy as np

    return np.ndarray(shape, f"u{width}", data, offset * width, [stride * width for stride in strides])


def _by_source(piece: Piece) -> Piece:
    """The piece with the longest step through its source first; dims of one step left out."""
    dims = zip(piece.shape, piece.source_strides, piece.target_strides, strict=True)
    ordered = sorted((dim for dim in dims if dim[0] != 1), key=lambda dim: -dim[1]) or [(1, 1, 1)]
    shape, source, target = zip(*ordered, strict=True)
    return replace(piece, shape=shape, source_strides=source, target_strides=target)


@dataclass(frozen=True, slots=True)
class _Need:
    """What a piece needs of its file, in elements: `rows` (steps of its first dim) of `row` elements, `step` apart.

    far: they are skipped between, not read through. apart: elements between the places of rows in the space; None
    where they need none.
    """

    rows: int
    row: int
    step: int
    far: bool
    apart: int | None

    @property
    def count(self) -> int:
        """Elements of space."""
        if self.apart:
            return self.rows * self.apart
        return 0 if self.far else (self.rows - 1) * self.step + self.row


def _need(piece: Piece, width: int) -> _Need:
    rows, step = piece.shape[0], piece.source_strides[0]
    row = 1 + sum((n - 1) * s for n, s in zip(piece.shape[1:], piece.source_strides[1:], strict=True))
    far = (step - row) * width > GAP
    turned = piece.target_strides[-1] != min(piece.target_strides)
    placed = turned and (far or row * width >= SHORT) and step >= row
    return _Need(rows, row, step, far, (-(-row * width // LINE) | 1) * LINE // width if placed else None)


def _fitting(piece: Piece, width: int) -> Iterator[Piece]:
    """The piece in parts whose needs fit the space."""
    need, most = _need(piece, width), SPACE // width
    if need.count <= most:
        yield piece
        return
    dim, steps = _cut(piece, need, most)
    for start in range(0, piece.shape[dim], steps):
        part = narrow(piece, dim, start, min(piece.shape[dim], start + steps))
        yield from _fitting(_by_source(part), width)


def _cut(piece: Piece, need: _Need, most: int) -> tuple[int, int]:
    """The dim to cut and how many of its steps to keep together: long rows are cut first."""
    if need.row > most or (need.apart and need.apart > most // SIDE and need.row > 1):
        reaches = [(n - 1) * s for n, s in zip(piece.shape, piece.source_strides, strict=True)]
        dim = max(range(1, len(reaches)), key=reaches.__getitem__)
        return dim, max(1, min(piece.shape[dim] - 1, most // SIDE // piece.source_strides[dim]))
    return 0, most // need.apart if need.apart else (most - need.row) // need.step + 1


def _loaded(piece: Piece, width: int, space: memoryview, source: Source) -> "Elements":
    """The piece's elements: in the space, or where they lie in a mapped file."""
    need, key, begin = _need(piece, width), str(piece.source), piece.source_offset * width
    if need.apart is None and need.far:
        return _view(source.mapped(key), width, piece.source_offset, piece.shape, piece.source_strides)
    if need.apart is None:
        source.read_tensor(key, begin, [space[: need.count * width]])
        return _view(space, width, 0, piece.shape, piece.source_strides)
    if need.far:
        sizes, places = (need.rows, need.row * width), (need.apart * width, 1)
        _view(space, 1, 0, sizes, places)[...] = _view(source.mapped(key), 1, begin, sizes, (need.step * width, 1))
    else:
        _read_rows(need, key, begin, width, space, source)
    return _view(space, width, 0, piece.shape, (need.apart, *piece.source_strides[1:]))


def _read_rows(need: _Need, key: str, begin: int, width: int, space: memoryview, source: Source) -> None:
    """Reads rows to their places; what lies between them goes behind the space."""
    row, step, apart = need.row * width, need.step * width, (need.apart or need.row) * width
    places = [space[k * apart : k * apart + row] for k in range(need.rows)]
    between = [space[SPACE : SPACE + step - row]] if step > row else []
    for k in range(0, need.rows, MOST_VIEWS // 2):
        views = [view for place in places[k : k + MOST_VIEWS // 2] for view in (place, *between)]
        source.read_tensor(key, begin + k * step, views[: len(views) - len(between)])
