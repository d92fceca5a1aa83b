"""Strided pieces on data: a tensor put together in memory with numpy, for pieces that are not runs of bytes.

Elements are unsigned integers of the dtype's width, so any dtype is copied unchanged, also one numpy does not know.
numpy is imported inside the functions, because a conversion of contiguous ranges does not need it.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from converters.algebra.boxes import Piece

if TYPE_CHECKING:
    import numpy as np

    Elements = np.ndarray[tuple[int], np.dtype[np.unsignedinteger]]


def assemble(count: int, width: int, pieces: Sequence[Piece], read: Callable[[str], bytes]) -> "Elements":
    """The flat elements of a tensor of `count` elements of `width` bytes; `read` gives a source tensor's bytes."""
    import numpy as np
    from numpy.lib.stride_tricks import as_strided

    kind = np.dtype(f"u{width}")
    out = np.zeros(count, kind)
    loaded: dict[str, Elements] = {}
    for piece in pieces:
        target = as_strided(out[piece.target_offset :], piece.shape, [s * width for s in piece.target_strides])
        if piece.source is None:
            target[...] = piece.value
            continue
        if piece.source not in loaded:
            loaded[piece.source] = np.frombuffer(read(piece.source), kind)
        source = loaded[piece.source][piece.source_offset :]
        target[...] = as_strided(source, piece.shape, [s * width for s in piece.source_strides])
    return out


def gather(data: bytes, shape: tuple[int, ...], strides: tuple[int, ...], width: int) -> bytes:
    """The row-major bytes of a tensor that lies in `data` with other strides (in elements)."""
    import numpy as np
    from numpy.lib.stride_tricks import as_strided

    elements = np.frombuffer(data, f"u{width}")
    return bytes(as_strided(elements, shape, [s * width for s in strides]).tobytes())
