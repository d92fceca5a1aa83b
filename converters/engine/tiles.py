"""A tensor that is gathered is made in tiles: runs of its elements, small enough for the processor's cache.

A tile is a number of whole rows where a row fits. Of a transposed matrix it takes a run of each row of the file: the
shorter the run, the more of what is fetched from memory for it is fetched for the next tile again.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from converters.algebra.boxes import Piece, narrow, take

BLOCK = 16 << 20  # bytes of the largest tile
RUN = 1 << 10  # bytes to take at least of each row of a file that is transposed


def tile_size(shape: Sequence[int], pieces: Sequence[Piece], width: int, wanted: int) -> int:
    """The number of elements, of `width` bytes, of each tile of a tensor; of about `wanted` bytes if it can be."""
    rows = [prod(shape[k + 1 :]) for k in range(len(shape))]
    row = next((row for row in rows if row * width <= wanted), 1)
    long = row * RUN if any(map(_turned, pieces)) else 0
    return max(1, max(wanted, min(long, BLOCK)) // (row * width)) * row


def _turned(piece: Piece) -> bool:
    """Whether neighbours in the file are no neighbours in the tensor."""
    return piece.source is not None and piece.source_strides[-1:] != (min(piece.source_strides, default=1),)


def cut_pieces(pieces: Sequence[Piece], whole: int, first: int, count: int) -> tuple[Piece, ...]:
    """The pieces that make `count` elements from element `first` on, of a tensor with `whole` elements.

    Rows of a matrix are a part of its one piece; what is put together from several is cut by the algebra, for longer.
    """
    if count == whole:
        return tuple(pieces)
    if len(pieces) == 1 and pieces[0].count == whole:
        row = pieces[0].target_strides[0]
        if first % row == count % row == 0:
            return (replace(narrow(pieces[0], 0, first // row, (first + count) // row), target_offset=0),)
    return tuple(part for piece in pieces for part in take(piece, (whole,), 0, first, first + count))
