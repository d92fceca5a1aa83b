"""Bytes of a tensor as a plan would make them, compared with the bytes that a checkpoint holds."""

from dataclasses import dataclass, field
from math import prod

from converters.algebra.boxes import whole
from converters.checkpoint.checkpoint import Checkpoint
from converters.checkpoint.source_files import SourceFiles, opened
from converters.checkpoint.stored_pieces import stored_pieces
from converters.engine.chunks import Maker, made
from converters.engine.tiles import cut_pieces
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
        all_of_it, first = whole(self.key, stored.shape), at // stored.width
        pieces = cut_pieces((all_of_it,), prod(stored.shape), first, length // stored.width)
        fill(stored_pieces(pieces, self.files.source.tensors), stored.width, into, self.space, self.files)
        return into


def _first(expected: bytes, found: bytes, element: int, width: int) -> Difference:
    k = next(k for k in range(0, len(expected), width) if expected[k : k + width] != found[k : k + width])
    return Difference(element + k // width, expected[k : k + width][::-1].hex(), found[k : k + width][::-1].hex())
