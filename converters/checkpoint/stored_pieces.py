"""Pieces of tensors whose elements are not in row-major order in their file, as torch saves a transposed view.

A piece counts the elements of its source row by row. Where the file has them in another order, the same elements are
one or more boxes in the order of the file; they keep their places in the target.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from converters.algebra.boxes import Piece, normal, refine
from converters.checkpoint.checkpoint import StoredTensor


def stored_pieces(pieces: tuple[Piece, ...], tensors: Mapping[str, StoredTensor]) -> tuple[Piece, ...]:
    """The pieces, with source offsets and strides in elements of the file from each tensor's first byte on."""
    if all(piece.source is None or tensors[piece.source].strides is None for piece in pieces):
        return pieces
    return tuple(part for piece in pieces for part in _stored(piece, tensors))


def _stored(piece: Piece, tensors: Mapping[str, StoredTensor]) -> Iterator[Piece]:
    stored = tensors[piece.source] if piece.source is not None else None
    if stored is None or stored.strides is None:
        yield piece
        return
    for refined in refine(_exchanged(piece), stored.shape):
        offset = sum(digit * stride for digit, stride in zip(refined.digits, stored.strides, strict=True))
        strides = tuple(step * stored.strides[axis] for step, axis in zip(refined.steps, refined.axes, strict=True))
        yield normal(_exchanged(replace(refined.piece, target_offset=offset, target_strides=strides)))


def _exchanged(piece: Piece) -> Piece:
    """The piece with source and target exchanged, for `refine` looks at targets."""
    return replace(
        piece,
        source_offset=piece.target_offset,
        source_strides=piece.target_strides,
        target_offset=piece.source_offset,
        target_strides=piece.source_strides,
    )
