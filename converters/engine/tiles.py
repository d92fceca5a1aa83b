"""A strided tensor in tiles: runs of its elements of bounded size, each made by the same pieces, cut to it.

For tensors whose parts interleave or are cast; what fills one run of its tensor goes in strips. A tile is a number of
whole rows where a row fits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from converters.algebra.boxes import Piece, take

BLOCK = 16 << 20  # bytes of the largest tile, and of the largest strip


@dataclass(frozen=True, slots=True)
class Tile:
    """`count` elements of a tensor from element `first` on, which `pieces` make."""

    pieces: tuple[Piece, ...]
    first: int
    count: int


def tiles(shape: Sequence[int], pieces: tuple[Piece, ...], width: int, block: int = BLOCK) -> Iterator[Tile]:
    """A tensor of elements of `width` bytes in tiles of at most `block` bytes, in order."""
    count, row, most = prod(shape), prod(shape[1:]), block // width
    unit = row if row <= most else 1
    units = -(-count // unit)
    each = unit * -(-units // -(-units // (most // unit)))  # tiles of about the same size
    for first in range(0, count, each):
        yield part_of(pieces, count, first, min(each, count - first))


def part_of(pieces: tuple[Piece, ...], whole: int, first: int, count: int) -> Tile:
    """The tile of `count` elements from element `first` on, of a tensor with `whole` elements."""
    if count < whole:
        pieces = tuple(part for piece in pieces for part in take(piece, (whole,), 0, first, first + count))
    return Tile(pieces, first, count)
