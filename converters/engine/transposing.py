"""Elements moved from where they lie in a mapped file to their places in a tensor, by numpy.

Elements are unsigned integers of the dtype's width, so every dtype, also one numpy does not know, passes untouched.
Where neighbours in the file are no neighbours in the tensor (a transpose), they pass through a small space that stays
in the processor's cache: rows of the file go there as they are, each to a place of its own that begins an odd number of
cache lines behind the last, and columns go on from there. Without it every element would cost a line of memory, and at
a distance of a power of two a column of them would meet in one set of the cache: three to ten times slower.
"""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

from converters.algebra.boxes import Piece

if TYPE_CHECKING:
    import numpy as np

    Elements = np.ndarray[Any, np.dtype[np.unsignedinteger]]

SPACE = 320 << 10  # bytes that elements of a file pass through
SHORT = 1 << 8  # bytes of a row below which it gets no place there
LINE = 64  # bytes of a cache line


class Source(Protocol):
    """Bytes of tensors by key."""

    def mapped(self, key: str) -> memoryview:
        """All bytes of a tensor, mapped into memory."""
        ...


def fill(pieces: Sequence[Piece], width: int, out: memoryview, space: memoryview, source: Source) -> None:
    """Puts the elements of pieces, of `width` bytes each, into `out`.

    space: SPACE bytes to pass through.
    """
    for piece in pieces:
        target = viewed(out, width, piece.target_offset, piece.shape, piece.target_strides)
        if piece.source is None:
            target[...] = piece.value
        else:
            move(source_of(piece, width, source), target, space)


def source_of(piece: Piece, width: int, source: Source) -> "Elements":
    """The elements of a piece where they lie."""
    return viewed(source.mapped(str(piece.source)), width, piece.source_offset, piece.shape, piece.source_strides)


def viewed(data: memoryview, width: int, offset: int, shape: Sequence[int], strides: Sequence[int]) -> "Elements":
    """Elements in a buffer; offset and strides in elements."""
    import numpy as np

    return np.ndarray(shape, f"u{width}", data, offset * width, [stride * width for stride in strides])


def move(source: "Elements", target: "Elements", space: memoryview) -> None:
    """Copies elements to elements of the same shape, which may lie in any other order.

    space: SPACE bytes to pass through.
    """
    source, target = source.squeeze(), target.squeeze()
    order = sorted(range(source.ndim), key=lambda axis: -source.strides[axis])
    _in_order(source.transpose(order), target.transpose(order), space)


def _in_order(source: "Elements", target: "Elements", space: memoryview) -> None:
    """Copies elements whose last axis is the shortest way through the file, and the first the longest."""
    if source.ndim < 2 or source.shape[-1] * source.itemsize < SHORT or target.strides[-1] == min(target.strides):
        target[...] = source
        return
    row = (-(-source.shape[-1] * source.itemsize // LINE) | 1) * LINE  # bytes, to an odd number of lines
    rows = prod(source.shape[1:-1])
    together = len(space) // (rows * row)
    if not together:
        for one, place in zip(source, target, strict=True):
            _in_order(one, place, space)
        return
    for first in range(0, len(source), together):
        part = source[first : first + together]
        passed = _rows(space, part, row)
        passed[...] = part
        target[first : first + together] = passed


def _rows(space: memoryview, like: "Elements", row: int) -> "Elements":
    """A view of the space of a shape, with `row` bytes from row to row."""
    import numpy as np

    strides = [like.itemsize, row]
    for size in reversed(like.shape[1:-1]):
        strides.append(strides[-1] * size)
    return np.ndarray(like.shape, like.dtype, space, 0, strides[::-1])
