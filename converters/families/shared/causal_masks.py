"""Causal masks that old files of GPT-2, GPT-J and CodeGen hold for every layer: ones on and below the diagonal."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from converters.algebra.boxes import Piece
from converters.algebra.views import View
from converters.checkpoint.checkpoint import StoredTensor
from converters.errors import NotInvertible
from converters.plan.known_buffers import ADVICE, Table, stored_bytes

ONE = {"BOOL": 1, "U8": 1, "F32": 0x3F800000, "F16": 0x3C00, "BF16": 0x3F80}  # bit patterns
WIDTH = {"BOOL": 1, "U8": 1, "F32": 4, "F16": 2, "BF16": 2}
LARGEST = 1 << 14  # positions


def _always(value: float) -> Callable[[Mapping[str, Any]], list[float]]:
    return lambda ours: [value]


# What hidden scores were set to. Half precision has no -1e9: there it became -inf, which stays when it is widened.
MASKED_BIASES = tuple(Table(".attn.masked_bias", _always(value), scalar=True) for value in (-1e4, -1e9, -math.inf))


@dataclass(frozen=True)
class CausalMask:
    """A (1, 1, n, n) lower triangle; its content is n."""

    suffix: str
    name: str = "causal"

    def content(self, tensor: StoredTensor, resolved: Mapping[str, Any]) -> int:
        """The number of positions.

        Raises:
            NotInvertible: the tensor is no lower triangle.
        """
        n = tensor.shape[-1] if tensor.shape else 0
        if tensor.shape != (1, 1, n, n) or tensor.dtype not in ONE or not 0 < n <= LARGEST:
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise NotInvertible(f"{tensor.key} is {found}, expected a causal mask [1, 1, n, n]; {ADVICE}")
        data, one, row = stored_bytes(tensor), _bytes(tensor.dtype), n * WIDTH[tensor.dtype]
        for i in range(n):
            if data[i * row : (i + 1) * row] != (one * (i + 1)).ljust(row, b"\0"):
                raise NotInvertible(f"{tensor.key} is not causal in row {i}; {ADVICE}")
        return n

    def holds(self, dtype: str, content: Any, resolved: Mapping[str, Any]) -> bool:
        """Whether the mask is that of all positions the model has."""
        if type(content) is not int or not 0 < content <= LARGEST or dtype not in ONE:
            raise ValueError(content)
        return bool(content == resolved["n_positions"])

    def view(self, dtype: str, content: Any) -> View:
        """Two fills for each row."""
        n, one = content, ONE[dtype]
        pieces = [Piece(None, (i + 1,), 0, (0,), i * n, (1,), one) for i in range(n)]
        pieces += (Piece(None, (n - i - 1,), 0, (0,), i * n + i + 1, (1,)) for i in range(n - 1))
        return View((1, 1, n, n), dtype, tuple(sorted(pieces, key=lambda piece: piece.target_offset)))


def _bytes(dtype: str) -> bytes:
    return ONE[dtype].to_bytes(WIDTH[dtype], "little")
