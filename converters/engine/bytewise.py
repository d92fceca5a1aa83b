"""Bytes of a tensor as a plan would make them, compared with the bytes that a checkpoint holds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from math import prod

from converters.algebra.boxes import whole
from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.source_files import SourceFiles, opened
from converters.checkpoint.stored_pieces import stored_pieces
from converters.engine.chunks import Maker, Space
from converters.engine.digest import CHUNK
from converters.engine.steps import Gather, Sheet, tensor_steps
from converters.engine.tiles import part_of
from converters.engine.transposing import SPACE, fill
from converters.plan.rules import TargetTensor


@dataclass(frozen=True)
class Difference:
    """The first element that differs, with both bit patterns in hexadecimal, most significant byte first."""

    element: int
    expected: str
    found: str

    def __str__(self) -> str:
        return f"element {self.element} is 0x{self.found}, expected 0x{self.expected}"


def differing_element(source: Checkpoint, tensor: TargetTensor, held: Checkpoint) -> Difference | None:
    """The first element of `tensor`, made from `source`, that `held` has otherwise; None if all bytes are equal."""
    width = held.tensors[tensor.key].width
    with opened(source) as files, opened(held) as theirs:
        at, other = 0, _Held(theirs, tensor.key)
        for expected in made(Maker(files), tensor):
            found = other.read(at, len(expected))
            if found != expected:
                return _first(bytes(expected), bytes(found), at // width, width)
            at += len(expected)
    return None


def made(maker: Maker, tensor: TargetTensor) -> Iterator[memoryview]:
    """The tensor's bytes in order, in chunks of whole elements; each is valid until the next."""
    buffer, space = memoryview(bytearray(CHUNK)), cache(Space)
    for step in tensor_steps(tensor, 0, maker.files.source):
        if isinstance(step, Gather | Sheet):
            for part in maker.moved(step):
                yield from part(space())
            continue
        for start in range(0, step.length, CHUNK):
            into = buffer[: min(CHUNK, step.length - start)]
            maker.fill(step, start, into)
            yield into


@dataclass(frozen=True)
class _Held:
    """The bytes of a stored tensor, row by row, however it lies in its file."""

    files: SourceFiles
    key: str
    space: memoryview = field(default_factory=lambda: memoryview(bytearray(SPACE)))

    def read(self, at: int, length: int) -> memoryview:
        """Bytes at..at + length."""
        stored, into = self.files.source.tensors[self.key], memoryview(bytearray(length))
        if stored.strides is None:
            self.files.read_tensor(self.key, at, into)
            return into
        pieces = part_of(
            (whole(self.key, stored.shape),), prod(stored.shape), at // stored.width, length // stored.width
        ).pieces
        fill(stored_pieces(pieces, self.files.source.tensors), stored.width, into, self.space, self.files)
        return into


def _first(expected: bytes, found: bytes, element: int, width: int) -> Difference:
    k = next(k for k in range(0, len(expected), width) if expected[k : k + width] != found[k : k + width])
    return Difference(element + k // width, expected[k : k + width][::-1].hex(), found[k : k + width][::-1].hex())
