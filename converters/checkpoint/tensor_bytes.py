"""A whole stored tensor as row-major bytes, however it lies in its file."""

from collections.abc import Callable

from converters.algebra.strided import gather
from converters.checkpoint.checkpoint import StoredTensor


def row_major_bytes(stored: StoredTensor, read: Callable[[int, int], bytes]) -> bytes:
    """The tensor's bytes; `read(begin, length)` gives bytes of its file."""
    if stored.strides is None:
        return read(stored.begin, stored.nbytes)
    span = 1 + sum((n - 1) * stride for n, stride in zip(stored.shape, stored.strides, strict=True))
    return gather(read(stored.begin, span * stored.width), stored.shape, stored.strides, stored.width)
