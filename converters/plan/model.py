"""A checkpoint that is not written yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converters.algebra.views import Check
from converters.checkpoint.checkpoint import Checkpoint
from converters.plan.rules import TargetTensor


@dataclass(frozen=True)
class Model:
    """A checkpoint on its way from one family to another.

    source: the checkpoint that the pieces of its tensors read. tensors: by key. checks: what must be true of the data.
    notes: sentences for the user. dropped: stored buffers that are left out on request; left_out: tensors that are.
    cropped_from: rows of the vocabulary before rows were cut off, 0 if none were.
    """

    source: Checkpoint
    config: Mapping[str, Any]
    tensors: Mapping[str, TargetTensor]
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    cropped_from: int = 0
