"""Casts between floating dtypes: a lossy step that the user asks for, and that is recorded with its largest errors.

Rounding is to nearest even, by way of float32, as torch's `Tensor.to` does it. NaN stays NaN. A finite number that
would become infinite in the new dtype is refused. numpy is imported when the first cast runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converters.errors import NotInvertible, UsageError

if TYPE_CHECKING:
    import numpy as np

NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
FLOATS = frozenset(NAMES.values())


@dataclass(frozen=True)
class Casted:
    """The bytes of a cast, and the largest absolute difference from what they were."""

    data: bytes
    error: float


def header_dtype(name: str) -> str:
    """`bfloat16` as safetensors spells it.

    Raises:
        UsageError: not one of the four floating dtypes.
    """
    if name not in NAMES:
        raise UsageError(f"--dtype is {name!r}, expected one of {', '.join(NAMES)}")
    return NAMES[name]


def cast(data: bytes | memoryview, was: str, to: str, key: str) -> Casted:
    """Elements of dtype `was` as elements of dtype `to`; `key` is named if they do not fit.

    Raises:
        NotInvertible: a finite number is too large for the new dtype.
    """
    import numpy as np

    wide = as_float(data, was)
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = from_float(wide, to)
        back = as_float(narrow, to)
        lost = np.isfinite(wide) & ~np.isfinite(back)
        if lost.any():
            raise NotInvertible(f"{key} holds {wide[lost][0]:g}, which {to} cannot hold; choose bfloat16 or float32")
        difference = np.abs(wide - back)
    return Casted(narrow, float(np.nanmax(np.where(np.isfinite(wide), difference, 0.0), initial=0.0)))


def as_float(data: bytes | memoryview, dtype: str) -> "np.ndarray[Any, np.dtype[np.floating[Any]]]":
    """Elements as numbers: float64 as they are, narrower ones as float32."""
    import numpy as np

    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).astype(
        "<f8" if dtype == "F64" else "<f4", copy=False
    )


def from_float(numbers: "np.ndarray[Any, np.dtype[np.floating[Any]]]", dtype: str) -> bytes:
    if dtype == "F64":
        return numbers.astype("<f8").tobytes()
    single = numbers.astype("<f4")
    if dtype == "BF16":
        return _bfloat16(single)
    return single.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def _bfloat16(single: "np.ndarray[Any, np.dtype[np.floating[Any]]]") -> bytes:
    """The upper halves of float32 numbers, rounded to nearest even; a NaN keeps its quiet bit."""
    import numpy as np

    bits = single.view("<u4")
    rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
    return np.where(np.isnan(single), (bits >> 16) | 0x40, rounded).astype("<u2").tobytes()


def step_record(dtype: str, errors: Mapping[str, float]) -> dict[str, Any]:
    """The lossy step as conversion.json has it: the dtype by its config name, and the largest error of each tensor."""
    name = next(name for name, header in NAMES.items() if header == dtype)
    return {"step": "cast", "dtype": name, "max_error": dict(sorted(errors.items()))}
