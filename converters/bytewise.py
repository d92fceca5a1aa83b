"""Bytes of a tensor as a plan would make them, compared with the bytes that a checkpoint holds."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

from converters.casts import cast
from converters.checkpoint import Checkpoint, StoredTensor
from converters.moving import TargetTensor
from converters.safetensors_header import BITS
from converters.steps import Cast, Copy, Literal, tensor_steps
from converters.strided import assemble
from converters.tensor_bytes import row_major_bytes

CHUNK = 1 << 20  # bytes


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
    stored = held.tensors[tensor.key]
    with ExitStack() as stack:
        files = {path: stack.enter_context(path.open("rb")) for path in {*source.files, stored.file}}
        at = 0
        for expected in _made(source, tensor, files):
            found = _held(stored, files[stored.file], at, len(expected))
            if found != expected:
                return _first(expected, found, at // stored.width, stored.width)
            at += len(expected)
    return None


def _held(stored: StoredTensor, file: IO[bytes], at: int, length: int) -> bytes:
    """Bytes at..at + length of a stored tensor."""
    if stored.strides is None:
        return _read(file, stored.begin + at, length)
    return row_major_bytes(stored, lambda begin, size: _read(file, begin, size))[at : at + length]


def _first(expected: bytes, found: bytes, element: int, width: int) -> Difference:
    k = next(k for k in range(0, len(expected), width) if expected[k : k + width] != found[k : k + width])
    return Difference(element + k // width, expected[k : k + width][::-1].hex(), found[k : k + width][::-1].hex())


def _made(source: Checkpoint, tensor: TargetTensor, files: Mapping[Path, IO[bytes]]) -> Iterator[bytes]:
    """The tensor's bytes in order, in chunks of whole elements."""
    for step in tensor_steps(tensor, 0, source):
        for start in range(0, step.length, CHUNK):
            length = min(CHUNK, step.length - start)
            if isinstance(step, Copy):
                yield _read(files[source.files[step.file]], step.begin + start, length)
            elif isinstance(step, Cast):
                was = str(tensor.cast_from)
                wide, narrow = BITS[tensor.dtype] // 8, BITS[was] // 8
                data = _read(
                    files[source.files[step.file]], step.begin + start // wide * narrow, length // wide * narrow
                )
                yield cast(data, was, tensor.dtype, tensor.key).data
            elif isinstance(step, Literal):
                yield step.pattern * (length // len(step.pattern))
            else:
                yield from _gathered(source, tensor, files)
                return


def _gathered(source: Checkpoint, tensor: TargetTensor, files: Mapping[Path, IO[bytes]]) -> Iterator[bytes]:
    def read(key: str) -> bytes:
        stored = source.tensors[key]
        return row_major_bytes(stored, lambda begin, length: _read(files[stored.file], begin, length))

    width = BITS[tensor.cast_from or tensor.dtype] // 8
    data = assemble(prod(tensor.shape), width, tensor.pieces, read).view("u1").data
    if tensor.cast_from:
        data = memoryview(cast(data, tensor.cast_from, tensor.dtype, tensor.key).data)
    for start in range(0, len(data), CHUNK):
        yield bytes(data[start : start + CHUNK])


def _read(file: IO[bytes], begin: int, length: int) -> bytes:
    file.seek(begin)
    return file.read(length)
