"""The tables of cosines and sines in a llama2.c file: a formula gives them, up to rounding.

A table holds cos or sin of position x base^(-2k / head_dim) for `seq_len` positions and half of a head's dimensions.
The bits that differ from our own float32 values are kept in the residue, so that the way back writes the same bytes.
"""

import math
import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from converters.algebra.boxes import Piece
from converters.algebra.views import View
from converters.checkpoint.checkpoint import StoredTensor
from converters.errors import NotInvertible
from converters.families.shared.inv_freq import inv_freq
from converters.plan.known_buffers import ADVICE, stored_bytes

LARGEST = 1 << 20  # elements of a table
ROUNDING = 1e-6  # of a cosine in float32
DRIFT = 5e-7  # of an angle, relative: a frequency and a product, both rounded to float32


@dataclass(frozen=True)
class Sinusoids:
    """A (positions, head_dim / 2) table of `function`; its content: "positions half base bits"."""

    suffix: str
    function: Callable[[float], float]
    name: str = "sinusoids"

    def content(self, tensor: StoredTensor, resolved: Mapping[str, Any]) -> str:
        """The sizes of the table, and the bits that differ from ours.

        Raises:
            NotInvertible: it is not what the formula gives.
        """
        half, base = len(inv_freq(resolved)), float(resolved["architecture.mixer.rotary_base"])
        positions = tensor.shape[0] if tensor.shape else 0
        if tensor.shape != (positions, half) or tensor.dtype != "F32" or not 0 < positions * half <= LARGEST:
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise NotInvertible(f"{tensor.key} is {found}, its formula gives F32 [positions, {half}]; {ADVICE}")
        data = stored_bytes(tensor)
        stored, angles = struct.unpack(f"<{positions * half}f", data), _angles(positions, half, base)
        for k, (number, angle) in enumerate(zip(stored, angles, strict=True)):
            if not abs(number - self.function(angle)) <= ROUNDING + DRIFT * angle:
                place = f"{tensor.key}[{k // half}, {k % half}] is {number:.9g}"
                raise NotInvertible(f"{place}, its formula gives {self.function(angle):.9g}; {ADVICE}")
        return f"{positions} {half} {base!r} {_packed(_xor(data, self.table(positions, half, base)))}"

    def holds(self, dtype: str, content: Any, resolved: Mapping[str, Any]) -> bool:
        """Whether the table is that of the live model."""
        positions, half, base, difference = _parsed(content)
        if dtype != "F32" or len(difference) not in (0, positions * half * 4):
            raise ValueError(content)
        said = (resolved["n_positions"], len(inv_freq(resolved)), resolved["architecture.mixer.rotary_base"])
        return (positions, half, base) == said

    def view(self, dtype: str, content: Any) -> View:
        """One fill for each element."""
        positions, half, base, difference = _parsed(content)
        data = _xor(difference, self.table(positions, half, base))
        values = struct.unpack(f"<{positions * half}I", data)
        return View(
            (positions, half), dtype, tuple(Piece(None, (1,), 0, (0,), k, (1,), v) for k, v in enumerate(values))
        )

    def table(self, positions: int, half: int, base: float) -> bytes:
        """Our own table: the formula, rounded to float32."""
        return struct.pack(f"<{positions * half}f", *map(self.function, _angles(positions, half, base)))


COSINES, SINES = Sinusoids("freqs_cos", math.cos), Sinusoids("freqs_sin", math.sin)


def _angles(positions: int, half: int, base: float) -> Iterator[float]:
    """Position x frequency, both rounded to float32, as programs that write such a table do."""
    frequencies = [_float32(base ** (-k / half)) for k in range(half)]
    return (_float32(position * frequency) for position in range(positions) for frequency in frequencies)


def _float32(number: float) -> float:
    (rounded,) = struct.unpack("<f", struct.pack("<f", number))
    return float(rounded)


def _xor(one: bytes, other: bytes) -> bytes:
    """Bits that differ; an empty operand stands for zeros."""
    return (int.from_bytes(one, "little") ^ int.from_bytes(other, "little")).to_bytes(len(other), "little")


def _packed(difference: bytes) -> str:
    return b64encode(zlib.compress(difference, 9)).decode() if any(difference) else "-"


def _parsed(content: Any) -> tuple[int, int, float, bytes]:
    """Sizes, base and differing bits of a content.

    Raises:
        TypeError, ValueError: it is not such a content.
    """
    if not isinstance(content, str):
        raise TypeError(content)
    positions, half, base, packed = content.split(" ")
    count = int(positions) * int(half)
    if not 0 < count <= LARGEST or not 0 < float(base) < 1e300:
        raise ValueError(content)
    if packed == "-":
        return int(positions), int(half), float(base), b""
    unpacker = zlib.decompressobj()
    try:
        difference = unpacker.decompress(b64decode(packed, validate=True), count * 4 + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    return int(positions), int(half), float(base), difference
