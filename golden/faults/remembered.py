"""A live reference that many candidates are compared with, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from golden.evidence.calibration import Calibration
from golden.evidence.live import LiveEvidence
from golden.evidence.ruler import common_columns


@dataclass(frozen=True)
class RememberedEvidence(LiveEvidence):
    """Runs each prompt once and measures each floor once. All of it stays in memory: for small models only.

    A reference is deterministic, which is checked where it is opened, so that a candidate is compared with the same
    logits as ever.
    """

    floors: dict[str, Calibration] = field(default_factory=dict)

    def pair(self, index: int, logits: Tensor) -> tuple[Tensor, Tensor]:
        if index not in self.kept:
            self.kept[index] = self.runner.logits(self.prompts[index].ids)
        return common_columns(logits, self.kept[index])

    def calibration(self, dtype: str) -> Calibration:
        if dtype not in self.floors:
            self.floors[dtype] = super().calibration(dtype)
        return self.floors[dtype]
