"""What is to be written into a file, as a list of steps in the order of its bytes.

Where elements lie in a row in source and target, a step is a copy of a range; elsewhere it gathers elements by strides.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from converters.algebra.boxes import Piece, normal, row_major
from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.safetensors_header import BITS
from converters.checkpoint.stored_pieces import stored_pieces
from converters.engine.shard_layout import Shard
from converters.engine.tiles import tile_size
from converters.plan.rules import TargetTensor

CHUNK = 1 << 20  # bytes that are made, written and hashed at once


@dataclass(frozen=True, slots=True)
class Copy:
    """`length` bytes from byte `begin` of a source file (by number) to byte `at` of the target file."""

    file: int
    begin: int
    at: int
    length: int

    def part(self, start: int, length: int) -> "Copy":
        """`length` bytes of it from byte `start` on."""
        return Copy(self.file, self.begin + start, self.at + start, length)


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes that come from no file: a pattern repeated up to `length` bytes, at byte `at` of the target file."""

    pattern: bytes
    at: int
    length: int

    def part(self, start: int, length: int) -> "Literal":
        """`length` bytes of it from byte `start` on."""
        first = start % len(self.pattern)
        return Literal(self.pattern[first:] + self.pattern[:first], self.at + start, length)


@dataclass(frozen=True, slots=True)
class Cast:
    """`count` elements from byte `begin` of a source file (by number), as another dtype at byte `at` of the target."""

    tensor: TargetTensor
    file: int
    begin: int
    at: int
    count: int

    @property
    def width(self) -> int:
        """Bytes of an element in the source."""
        return _width(self.tensor.cast_from or self.tensor.dtype)

    @property
    def length(self) -> int:
        """Bytes that are written."""
        return self.count * _width(self.tensor.dtype)

    def part(self, start: int, length: int) -> "Cast":
        """`length` bytes of it from byte `start` on; whole elements."""
        first, count = start // _width(self.tensor.dtype), length // _width(self.tensor.dtype)
        return Cast(self.tensor, self.file, self.begin + first * self.width, self.at + start, count)


@dataclass(frozen=True, slots=True)
class Gather:
    """Elements first..first + count of what pieces put together, an array of `shape`, at byte `at` of the target."""

    tensor: TargetTensor
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    first: int
    count: int
    at: int

    @property
    def width(self) -> int:
        """Bytes of an element in the source."""
        return _width(self.tensor.cast_from or self.tensor.dtype)

    @property
    def length(self) -> int:
        """Bytes that are written."""
        return self.count * _width(self.tensor.dtype)

    def part(self, start: int, length: int) -> "Gather":
        """`length` bytes of it from byte `start` on; whole elements."""
        first, count = start // _width(self.tensor.dtype), length // _width(self.tensor.dtype)
        return replace(self, first=self.first + first, count=count, at=self.at + start)

    def whole_rows(self, wanted: int) -> int:
        """About `wanted` bytes, in whole rows where a row is shorter."""
        return tile_size(self.shape, self.pieces, self.width, wanted) * _width(self.tensor.dtype)


Step = Copy | Literal | Cast | Gather


def _width(dtype: str) -> int:
    return BITS[dtype] // 8


def parts(step: Step, wanted: int) -> Iterator[Step]:
    """A step cut into steps of about `wanted` bytes, in order."""
    size = step.whole_rows(wanted) if isinstance(step, Gather) else wanted
    for start in range(0, step.length, size):
        yield step.part(start, min(size, step.length - start))


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
    pieces = tuple(sorted(map(normal, stored_pieces(tensor.pieces, source.tensors)), key=lambda p: p.target_offset))
    if not all(piece.target_strides == row_major(piece.shape) for piece in pieces):
        yield Gather(tensor, tensor.shape, pieces, 0, prod(tensor.shape), at)
        return
    for piece in pieces:
        yield _run(tensor, piece, at + piece.target_offset * _width(tensor.dtype), source)


def _run(tensor: TargetTensor, piece: Piece, at: int, source: Checkpoint) -> Step:
    """How a piece that is one run of its tensor is written."""
    width = _width(tensor.dtype)
    if piece.source is None:
        return Literal(piece.value.to_bytes(width, "little"), at, piece.count * width)
    if not contiguous(piece):
        return Gather(tensor, piece.shape, (replace(piece, target_offset=0),), 0, piece.count, at)
    stored = source.tensors[piece.source]
    begin = stored.begin + piece.source_offset * stored.width
    if tensor.cast_from:
        return Cast(tensor, stored.shard, begin, at, piece.count)
    return Copy(stored.shard, begin, at, piece.count * width)


def in_ranges(tensor: TargetTensor, source: Checkpoint) -> bool:
    """Whether a tensor is made of ranged copies alone."""
    return all(map(contiguous, stored_pieces(tensor.pieces, source.tensors)))


def contiguous(piece: Piece) -> bool:
    """Whether a piece is one run of elements on both sides."""
    return piece.target_strides in ((), (1,)) and (piece.source is None or piece.source_strides in ((), (1,)))
