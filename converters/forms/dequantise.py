"""Dequantising tensors of a GGUF file to float32: a lossy step, because no conversion back gives the same blocks.

The arithmetic is that of the `gguf` package, which is kept by the authors of the format; it is an optional dependency.
Rows are read, dequantised and written a few megabytes at a time.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import BinaryIO

from converters.checkpoint.gguf_header import TYPES, GgufTensor
from converters.checkpoint.scratch import scratch_file
from converters.counts import counted
from converters.errors import NotInvertible, UnsafeFile

AT_ONCE = 4 << 20  # elements
INTERNAL = ("Q8_1", "Q8_K")  # types that ggml uses in computation only


def check_types(path: Path, tensors: Sequence[GgufTensor], *, allowed: bool) -> None:
    """Refuses quantised tensors that may not, or cannot, be dequantised.

    Raises:
        NotInvertible: naming the first tensor, its type, and what to do.
    """
    if not tensors:
        return
    first, rest = tensors[0], len(tensors) - 1
    named = f"{first.key} and {counted(rest, 'more tensor')} are" if rest else f"{first.key} is"
    if not allowed:
        kinds = ", ".join(sorted({tensor.kind for tensor in tensors}))
        raise NotInvertible(
            f"{path}: {named} quantised ({kinds}); pass --dequantize to convert to float32, which is a lossy step, or"
            f" convert a GGUF file with F32, F16 or BF16 tensors"
        )
    for tensor in tensors:
        if tensor.kind in INTERNAL:
            raise NotInvertible(f"{path}: {tensor.key} is of type {tensor.kind}, which cannot be dequantised")


def as_float32(path: Path, tensors: Sequence[GgufTensor], place: Path) -> Path:
    """A file in `place` with the tensors as float32, one after the other.

    Raises:
        UnsafeFile: the package is missing, or a tensor cannot be dequantised.
    """
    if find_spec("gguf") is None:
        raise UnsafeFile("--dequantize needs the gguf package; install it with: pip install gguf")
    target = scratch_file(path.stem, place)
    with path.open("rb") as source, target.open("wb") as out:
        for tensor in tensors:
            try:
                _write(source, tensor, out)
            except (ValueError, NotImplementedError) as error:  # gguf says by the second that it knows no such kind
                raise UnsafeFile(f"{path}: {tensor.key} ({tensor.kind}) cannot be dequantised: {error}") from None
    return target


def _write(source: BinaryIO, tensor: GgufTensor, out: BinaryIO) -> None:
    import numpy as np
    from gguf import GGMLQuantizationType, quants

    _, block, width = next(known for known in TYPES.values() if known[0] == tensor.kind)
    columns = tensor.shape[-1] if tensor.shape else 1
    rows, row = prod(tensor.shape[:-1]), columns // block * width
    source.seek(tensor.begin)
    step = max(1, AT_ONCE // max(1, columns))
    for start in range(0, rows, step):
        count = min(step, rows - start)
        data = np.frombuffer(source.read(count * row), np.uint8).reshape(count, row)
        with np.errstate(all="ignore"):  # a scale may have any value; the verdict judges the result
            numbers = quants.dequantize(data, GGMLQuantizationType[tensor.kind])
        out.write(np.ascontiguousarray(numbers, "<f4").tobytes())
