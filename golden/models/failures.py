"""What a model raises while it is built or run, as errors of this package.

A model is code of transformers under a config that nobody vouches for, so it may raise anything. None of it is a fault
of this program.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from golden.errors import CannotBuildError, CannotRunError, FolderError, GoldenError, MissingDeviceError, NoMemoryError
from golden.models.folders import read_config

FAULTS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError)
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's own, or torch's, which is a RuntimeError."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(n in text for n in _NO_MEMORY))


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Turns an error of memory into NoMemoryError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, GoldenError) or not lacks_memory(error):
            raise
        raise NoMemoryError(f"{what}: memory ran out: {_first_line(error)}") from error


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Turns errors of a forward pass into errors of this package.

    Raises:
        CannotRunError: the model cannot be run; also a RuntimeError, for a candidate that cannot run is a wrong one.
        NoMemoryError: memory ran out.
    """
    try:
        with enough_memory(f"{folder}: the model cannot be run"):
            yield
    except FAULTS as broken:
        if isinstance(broken, GoldenError):
            raise
        raise CannotRunError(f"{folder}: the model cannot be run: {type(broken).__name__}: {broken}") from broken


@contextmanager
def building(folder: Path, attn: str | None) -> Iterator[None]:
    """Turns errors while a model is built into errors of this package.

    Raises:
        FolderError: a file cannot be read, or config.json does not say what the model is.
        CannotBuildError: config.json and weights can be read, and make no model.
        MissingDeviceError: the attention backend is not on this machine.
        NoMemoryError: memory ran out.
    """
    from safetensors import SafetensorError

    try:
        with enough_memory(f"{folder}: the model cannot be built"):
            yield
    except GoldenError:
        raise
    except ImportError as missing:
        what = "the model" if attn is None else f"attention {attn!r}"
        raise MissingDeviceError(f"{folder}: {what} cannot run on this machine: {missing}") from missing
    except Exception as broken:  # a config can make the code of transformers raise anything
        if attn is not None and attn.startswith("flash"):
            raise MissingDeviceError(f"{folder}: attention {attn!r} cannot run on this machine: {broken}") from broken
        unread = isinstance(broken, SafetensorError) or (isinstance(broken, OSError) and broken.errno)
        kind = FolderError if unread or "model_type" not in read_config(folder) else CannotBuildError
        raise kind(f"{folder}: the model cannot be built: {type(broken).__name__}: {broken}") from broken


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nonfinite_words(name: str, parts: Iterable[Tensor]) -> str | None:
    """How many values of a tensor, given in parts, are NaN or infinite, as a sentence; None where all are finite."""
    bad = total = 0
    for part in parts:
        bad, total = bad + _nonfinite(part), total + part.numel()
    return f"{name}: {bad} of {total} values are NaN or infinite" if bad else None


def _nonfinite(values: Tensor) -> int:
    if not values.is_floating_point() or not values.numel() or all(map(torch.isfinite, torch.aminmax(values))):
        return 0
    return int((~torch.isfinite(values)).sum())
