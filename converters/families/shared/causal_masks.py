"""Causal masks that old files of GPT-2, GPT-J and CodeGen hold for every layer: ones on and below the diagonal."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from converters.algebra.boxes import Piece
from converters.algebra.views import View
from converters.checkpoint.checkpoint import StoredTensor
from converters.config.list_architecture import PerLayer
from converters.errors import NotInvertible
from converters.families.shared.windows import tokens_of
from converters.plan.known_buffers import ADVICE, Table, stored_bytes

ONE = {"BOOL": 1, "U8": 1, "F32": 0x3F800000, "F16": 0x3C00, "BF16": 0x3F80}  # bit patterns
WIDTH = {"BOOL": 1, "U8": 1, "F32": 4, "F16": 2, "BF16": 2}
LARGEST = 1 << 14  # positions


def _always(value: float) -> Callable[[Mapping[str, Any]], list[float]]:
    return lambda ours: [value]


# What hidden scores were set to. Half precision has no -1e9: there it became -inf, which stays when it is widened.
HIDDEN = (-1e4, -1e9, -math.inf)


def masked_biases(attention: str) -> tuple[Table, ...]:
    """Of an attention whose keys end in `attention` before that."""
    return tuple(Table(f"{attention}.masked_bias", _always(value), scalar=True) for value in HIDDEN)


MASKED_BIASES = masked_biases(".attn")


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


@dataclass(frozen=True)
class LocalMask(CausalMask):
    """A (1, 1, n, n) mask of GPT-Neo, where a layer may see a window; its content is n and the window in tokens."""

    name: str = "local"

    def content(self, tensor: StoredTensor, resolved: Mapping[str, Any]) -> Any:
        """The number of positions and the window.

        Raises:
            NotInvertible: the tensor is not the mask of its layer.
        """
        n = tensor.shape[-1] if tensor.shape else 0
        if tensor.shape != (1, 1, n, n) or tensor.dtype not in ONE or not 0 < n <= LARGEST:
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise NotInvertible(f"{tensor.key} is {found}, expected a mask [1, 1, n, n]; {ADVICE}")
        window = min(n, _window_of(tensor.key, resolved) or n)
        data, one, row = stored_bytes(tensor), _bytes(tensor.dtype), n * WIDTH[tensor.dtype]
        for i in range(n):
            seen = min(window, i + 1)
            expected = bytes(len(one) * (i + 1 - seen)) + one * seen
            if data[i * row : (i + 1) * row] != expected.ljust(row, b"\0"):
                raise NotInvertible(f"{tensor.key} is not the mask of this layer in row {i}; {ADVICE}")
        return [n, window]

    def holds(self, dtype: str, content: Any, resolved: Mapping[str, Any]) -> bool:
        """Whether the mask is one of some layer of the model, for all positions that it has."""
        n, window = content
        super().holds(dtype, n, resolved)
        windows = (_window_of(f".{i}.", resolved) or n for i in range(resolved["n_layer"]))
        return bool(n == resolved["n_positions"]) and any(window == min(n, known) for known in windows)

    def view(self, dtype: str, content: Any) -> View:
        """Up to three fills for each row."""
        (n, window), one = content, ONE[dtype]
        pieces = list[Piece]()
        for i in range(n):
            first = max(0, i + 1 - window)
            for start, size, value in ((0, first, 0), (first, i + 1 - first, one), (i + 1, n - i - 1, 0)):
                pieces += [Piece(None, (size,), 0, (0,), i * n + start, (1,), value)] if size else []
        return View((1, 1, n, n), dtype, tuple(pieces))


def _window_of(key: str, resolved: Mapping[str, Any]) -> int | None:
    """The window of a layer in tokens, by the number in a key."""
    window = resolved.get("architecture.mixer.window_size")
    layer = int(next(part for part in key.split(".") if part.isdigit()))
    return tokens_of(window[layer] if isinstance(window, PerLayer) else window)


def _bytes(dtype: str) -> bytes:
    return ONE[dtype].to_bytes(WIDTH[dtype], "little")
