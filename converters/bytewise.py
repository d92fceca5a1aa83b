"""Bytes of a tensor as a plan would make them, compared with the bytes that a checkpoint holds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

from converters.boxes import take, whole
from converters.checkpoint import Checkpoint
from converters.digest import CHUNK
from converters.filling import GAP, SPACE, fill
from converters.making import Maker, Space
from converters.moving import TargetTensor
from converters.source_files import opened
from converters.steps import Gather, Recall, Step, tensor_steps
from converters.stored_pieces import stored_pieces
from converters.tiles import Tile


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
    with opened(source) as files, opened(held) as theirs:
        made, other = _Made(Maker(files)), _Held(Maker(theirs), tensor.key)
        unordered: list[Difference] = []
        for step in tensor_steps(tensor, 0, source):
            found = next(other.differences(made.parts(step)), None)
            unordered += [found] if found else []
            if unordered and not (isinstance(step, Gather) and not step.tile.in_order):
                return min(unordered, key=lambda difference: difference.element)
    return None


@dataclass(frozen=True)
class _Made:
    """Steps as bytes, with the byte of the tensor where they belong."""

    maker: Maker
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(CHUNK)))

    @cached_property
    def space(self) -> Space:
        return Space()

    def parts(self, step: Step) -> Iterator[tuple[int, memoryview]]:
        if isinstance(step, Gather):
            yield from self.maker.tile(step, self.space)
        elif not isinstance(step, Recall):
            for start in range(0, step.length, CHUNK):
                into = self.buffer[: min(CHUNK, step.length - start)]
                self.maker.fill(step, start, into)
                yield step.at + start, into


@dataclass(frozen=True)
class _Held:
    """The bytes of a stored tensor, row by row, however it lies in its file."""

    maker: Maker
    key: str

    @cached_property
    def space(self) -> memoryview:
        return memoryview(bytearray(SPACE + GAP))

    def differences(self, parts: Iterator[tuple[int, memoryview]]) -> Iterator[Difference]:
        """The first element of each part that is otherwise here."""
        width = self.maker.files.source.tensors[self.key].width
        for at, expected in parts:
            found = self._read(at, len(expected))
            if found != expected:
                yield _first(bytes(expected), bytes(found), at // width, width)

    def _read(self, at: int, length: int) -> memoryview:
        """Bytes at..at + length."""
        stored = self.maker.files.source.tensors[self.key]
        into = memoryview(bytearray(length))
        if stored.strides is None:
            self.maker.read(self.key, at, [into])
            return into
        first, count = at // stored.width, length // stored.width
        parts = tuple(take(whole(self.key, stored.shape), (prod(stored.shape),), 0, first, first + count))
        tile = Tile(stored_pieces(parts, self.maker.files.source.tensors), 1, count, 0, count)
        fill(tile, stored.width, into, self.space, self.maker.read)
        return into


def _first(expected: bytes, found: bytes, element: int, width: int) -> Difference:
    k = next(k for k in range(0, len(expected), width) if expected[k : k + width] != found[k : k + width])
    return Difference(element + k // width, expected[k : k + width][::-1].hex(), found[k : k + width][::-1].hex())
