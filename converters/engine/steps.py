"""A shard as a list of steps in file order: ranged copies wherever pieces are contiguous, tiles elsewhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from converters.algebra.boxes import Piece
from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.safetensors_header import BITS
from converters.checkpoint.stored_pieces import stored_pieces
from converters.engine.shard_layout import Shard
from converters.engine.strips import cut_sheet, sheet_of
from converters.engine.tiles import Tile, tiles
from converters.plan.rules import TargetTensor


@dataclass(frozen=True, slots=True)
class Copy:
    """`length` bytes from byte `begin` of a source file (by number) to byte `at` of the target file."""

    file: int
    begin: int
    at: int
    length: int


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes that come from no file: a pattern repeated up to `length` bytes, at byte `at` of the target file."""

    pattern: bytes
    at: int
    length: int


@dataclass(frozen=True, slots=True)
class Gather:
    """A tile of a tensor put together from strided pieces, at byte `at` of the target file."""

    tensor: TargetTensor
    tile: Tile
    at: int

    @property
    def length(self) -> int:
        """Bytes of the tile."""
        return self.tile.count * BITS[self.tensor.dtype] // 8


@dataclass(frozen=True, slots=True)
class Cast:
    """`count` elements from byte `begin` of a source file (by number), as another dtype at byte `at` of the target."""

    file: int
    begin: int
    at: int
    count: int
    tensor: TargetTensor

    @property
    def length(self) -> int:
        """Bytes that are written."""
        return self.count * BITS[self.tensor.dtype] // 8


@dataclass(frozen=True, slots=True)
class Sheet:
    """Elements of `width` bytes in another order than in their file, for the run of bytes from byte `at` on."""

    piece: Piece
    width: int
    at: int

    @property
    def length(self) -> int:
        """Bytes that are written."""
        return self.piece.count * self.width


Step = Copy | Literal | Gather | Cast | Sheet


def steps_of(shard: Shard, source: Checkpoint) -> list[Step]:
    """Everything to be written into a shard, in the order of its bytes, adjacent copies merged."""
    merged: list[Step] = [Literal(shard.header, 0, len(shard.header))]
    at = len(shard.header)
    for tensor in shard.tensors:
        for step in tensor_steps(tensor, at, source):
            _append(merged, step)
        at += tensor.nbytes
    return merged


def _append(steps: list[Step], step: Step) -> None:
    last = steps[-1]
    if (
        isinstance(last, Copy)
        and isinstance(step, Copy)
        and (last.file, last.begin + last.length, last.at + last.length) == (step.file, step.begin, step.at)
    ):
        steps[-1] = replace(last, length=last.length + step.length)
    else:
        steps.append(step)


def tensor_steps(tensor: TargetTensor, at: int, source: Checkpoint) -> Iterator[Step]:
    """How one tensor is written, from byte `at` of its file on."""
    if not tensor.nbytes:
        return
    pieces = stored_pieces(tensor.pieces, source.tensors)
    width = BITS[tensor.dtype] // 8
    sheets = [None if contiguous(piece) else sheet_of(piece) for piece in pieces]
    scattered = not all(sheet or contiguous(piece) for sheet, piece in zip(sheets, pieces, strict=True))
    if scattered or (tensor.cast_from and any(sheets)):
        for tile in tiles(tensor.shape, pieces, BITS[tensor.cast_from or tensor.dtype] // 8):
            yield Gather(tensor, tile, at + tile.first * width)
        return
    for piece, sheet in zip(pieces, sheets, strict=True):
        place = at + piece.target_offset * width
        if piece.source is None:
            yield Literal(piece.value.to_bytes(width, "little"), place, piece.count * width)
            continue
        if sheet:
            yield Sheet(sheet, width, place)
            continue
        stored = source.tensors[piece.source]
        begin = stored.begin + piece.source_offset * stored.width
        if tensor.cast_from:
            yield Cast(stored.shard, begin, place, piece.count, tensor)
        else:
            yield Copy(stored.shard, begin, place, piece.count * width)


def in_ranges(tensor: TargetTensor, source: Checkpoint) -> bool:
    """Whether a tensor is made of ranged copies alone."""
    return all(map(contiguous, stored_pieces(tensor.pieces, source.tensors)))


def contiguous(piece: Piece) -> bool:
    """Whether a piece is one run of elements on both sides."""
    return piece.target_strides in ((), (1,)) and (piece.source is None or piece.source_strides in ((), (1,)))


def pieces_of_work(steps: Sequence[Step], largest: int) -> Iterator[Step]:
    """The steps with long ones cut, so that several threads can share one file."""
    for step in steps:
        if isinstance(step, Copy):
            for start in range(0, step.length, largest):
                length = min(largest, step.length - start)
                yield Copy(step.file, step.begin + start, step.at + start, length)
        elif isinstance(step, Sheet):
            begin = step.at - step.piece.target_offset * step.width
            for part in cut_sheet(step.piece, step.width, largest):
                yield replace(step, piece=part, at=begin + part.target_offset * step.width)
        else:
            yield step
