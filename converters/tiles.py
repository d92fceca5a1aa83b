"""A strided tensor in tiles of bounded size, each a small tensor of its own, made by the same pieces cut to it.

Tiles are runs of whole rows, in the order of the file, as long as that reads the source in runs worth a system call. A
transposed matrix too large for that is cut into squares: their runs are equally long on both sides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt, prod

from converters.boxes import Piece, take

BLOCK = 16 << 20  # bytes of the largest tile
LEAST = 4 << 10  # bytes of the shortest runs that are worth a system call each


@dataclass(frozen=True, slots=True)
class Tile:
    """`rows` x `columns` elements that `pieces` make, row by row.

    In their tensor the first is element `first`, and rows begin `pitch` elements apart.
    """

    pieces: tuple[Piece, ...]
    rows: int
    columns: int
    first: int
    pitch: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return self.rows * self.columns

    @property
    def in_order(self) -> bool:
        """Whether the tile is one run of its tensor."""
        return self.columns == self.pitch or self.rows == 1


def tiles(shape: Sequence[int], pieces: tuple[Piece, ...], width: int, block: int = BLOCK) -> Iterator[Tile]:
    """A tensor of elements of `width` bytes, in tiles of at most `block` bytes."""
    rows, columns = shape[0] if shape else 1, prod(shape[1:])
    high, wide = _sides(rows, columns, width, block, pieces)
    if (high, wide) == (rows, columns):
        yield Tile(pieces, rows, columns, 0, columns)
        return
    for top in range(0, rows, high):
        under = min(rows, top + high)
        band = [part for piece in pieces for part in take(piece, (rows, columns), 0, top, under)]
        for left in range(0, columns, wide):
            right = min(columns, left + wide)
            inside = [part for piece in band for part in take(piece, (under - top, columns), 1, left, right)]
            yield Tile(tuple(inside), under - top, right - left, top * columns + left, columns)


def _sides(rows: int, columns: int, width: int, block: int, pieces: Sequence[Piece]) -> tuple[int, int]:
    """Rows and columns of a tile."""
    most = block // width
    high = min(rows, max(1, most // columns))
    if high < rows and high * width < LEAST and any(_turned(piece, columns) for piece in pieces):
        high = min(rows, isqrt(most))
    return high, min(columns, most // high)


def _turned(piece: Piece, columns: int) -> bool:
    """Whether neighbours in the source come to lie in different rows of the target."""
    steps = zip(piece.source_strides, piece.target_strides, strict=True)
    return piece.source is not None and min(steps, default=(0, 0))[1] >= columns > 1
