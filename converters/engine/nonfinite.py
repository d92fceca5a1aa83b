"""NaN and infinities: carried over as they are, and named.

They are found while bytes pass, by the hash that every byte is told anyway. As integers, numbers with all bits of the
exponent set are the largest there are: those with a sign among the unsigned, those without among the signed. Two maxima
tell whether there is any, which costs a tenth of the hash; only where there is one are they counted.
"""

import hashlib
from collections.abc import Iterable
from itertools import accumulate

from converters.checkpoint.safetensors_header import BITS
from converters.checkpoint.source_files import SourceFiles
from converters.engine.chunks import Maker, made
from converters.engine.shard_layout import Shard
from converters.plan.rules import TargetTensor, unmoved

INFINITY = {"F16": 0x7C00, "BF16": 0x7F80, "F32": 0x7F80_0000, "F64": 0x7FF0_0000_0000_0000}  # bit patterns


class WatchingHash:
    """The sha256 of a shard's bytes, told in their order; remembers tensors that may hold what is not finite."""

    def __init__(self, shard: Shard, suspects: dict[str, TargetTensor]) -> None:
        self._hash = hashlib.sha256()
        self._tensors, self._suspects = shard.tensors, suspects
        self._ends = list(accumulate((tensor.nbytes for tensor in shard.tensors), initial=len(shard.header)))
        self._at, self._current = 0, -1  # bytes told so far; the tensor they end in, -1 for the header

    def update(self, data: memoryview) -> None:
        """Hashes bytes and looks at them."""
        self._hash.update(data)
        begin = 0
        while begin < len(data):
            if self._at == self._ends[self._current + 1]:
                self._current += 1
                continue
            end = min(len(data), begin + self._ends[self._current + 1] - self._at)
            if self._current >= 0:
                self._look(self._tensors[self._current], data[begin:end])
            self._at += end - begin
            begin = end

    def _look(self, tensor: TargetTensor, data: memoryview) -> None:
        if tensor.dtype not in INFINITY or tensor.key in self._suspects:
            return
        torn = len(data) % (BITS[tensor.dtype] // 8)  # an element lies in two buffers: look again later
        if torn or _any(data, tensor.dtype):
            self._suspects[tensor.key] = tensor

    def hexdigest(self) -> str:
        """The sha256 of all bytes told."""
        return self._hash.hexdigest()


def _any(data: memoryview, dtype: str) -> bool:
    """Whether one of the elements is NaN or infinite."""
    import numpy as np

    width, least = BITS[dtype] // 8, INFINITY[dtype]
    unsigned = np.frombuffer(data, f"<u{width}")
    sign = 1 << (8 * width - 1)
    return int(unsigned.max()) >= sign | least or int(unsigned.view(f"<i{width}").max()) >= least


def count_nonfinite(files: SourceFiles, suspects: Iterable[TargetTensor]) -> dict[str, int]:
    """How many values of the tensors that the suspects were made from are NaN or infinite, by key, where any is."""
    tensors, keys = unmoved(files.source), {p.source for t in suspects for p in t.pieces if p.source is not None}
    counts = {files.source.tensors[key].name: _count(files, tensors[key]) for key in sorted(keys)}
    return {name: count for name, count in counts.items() if count}


def _count(files: SourceFiles, tensor: TargetTensor) -> int:
    return sum(_nonfinite(data, tensor.dtype) for data in made(Maker(files), tensor)) if tensor.dtype in INFINITY else 0


def _nonfinite(data: memoryview, dtype: str) -> int:
    import numpy as np

    bits = np.frombuffer(data, f"<u{BITS[dtype] // 8}")
    return int(((bits & INFINITY[dtype]) == INFINITY[dtype]).sum())
