"""Results of a reference on disk, written before the candidate is loaded, where both do not fit into memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from golden.evidence.calibration import Calibration, divergence
from golden.evidence.continuation import Continuation
from golden.evidence.prompts import Prompt
from golden.evidence.ruler import common_columns
from golden.evidence.stages import Stages, diagnosis_prompt


@dataclass(frozen=True)
class SpilledEvidence:
    """Results of a reference that is no longer in memory. Logits and rows lie in one file per prompt and chunk."""

    folder: Path
    prompts: tuple[Prompt, ...]
    table_sizes: Mapping[str, int]
    used_vocab: int
    written: Continuation
    calibrations: Mapping[str, Calibration]
    backends: float
    states: Stages
    config: Mapping[str, Any]
    distance: float | None = None
    std: float | None = None

    def pair(self, index: int, logits: Tensor) -> tuple[Tensor, Tensor]:
        return common_columns(logits, self._load(f"prompt-{index}"))

    def begin(self) -> None:
        """All is on disk."""

    def divergence(self, found: Tensor, true: Tensor) -> Tensor:
        return divergence(true, found)

    def pair_rows(self, table: str, start: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        return common_columns(rows, self._load(f"{table}-{start}")[: len(rows)])

    def continuation(self) -> Continuation:
        return self.written

    def calibration(self, dtype: str) -> Calibration:
        return self.calibrations[dtype]

    def spread(self) -> float:
        return self.backends

    def stages(self, index: int) -> Stages:
        return self.states if index == diagnosis_prompt(self.prompts) else []

    def _load(self, name: str) -> Tensor:
        values: Tensor = load_file(self.folder / f"{name}.safetensors")["values"]
        return values
