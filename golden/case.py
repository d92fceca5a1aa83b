"""A case: the options of ``compare`` after they were checked, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from golden.evidence.calibration import LOW_PRECISION
from golden.evidence.golden_file import GoldenEvidence
from golden.evidence.prompts import prompt_length
from golden.levels.kernels import refusal
from golden.models.folders import read_config, stored_elements, vocabulary
from golden.models.memory import RunPlan, available_bytes, plan_run
from golden.models.streamed_loading import largest_layer
from golden.watching import Progress, Watch

WIDE = {"float64": 8, "float32": 4}
ATTENTION = ("eager", "sdpa", "flash")
CPU_LIMIT = 1_000_000_000
"""L3 runs on a CPU for models of up to this many weights."""


@dataclass(frozen=True)
class Case:
    """One candidate and what it is compared with: a reference folder, a golden file, or both."""

    candidate: Path
    reference: Path | None
    golden_path: Path | None
    golden: GoldenEvidence | None
    wanted: frozenset[str]
    device: str = "cpu"
    dtype: str | None = None
    attn: str | None = None
    progress: Progress | None = None
    lossy_steps: tuple[Mapping[str, Any], ...] = ()
    watch: Watch = field(default_factory=Watch)

    def say(self, what: str) -> None:
        """Tells who follows what runs now, where nothing of it can be counted."""
        if self.progress is not None:
            self.progress(what, 0, 0)

    @property
    def wide_attention(self) -> str | None:
        """The candidate's attention in L2 and L4, where flash attention cannot run. None: the model's default."""
        return self.attn if self.attn in ("eager", "sdpa") else None

    @property
    def low_precisions(self) -> tuple[str, ...]:
        """The dtypes of L3, also those that the models exclude. A golden file may hold fewer than a live reference."""
        if self.dtype in LOW_PRECISION:
            return (self.dtype,)
        if self.golden is None:
            return tuple(LOW_PRECISION)
        known = self.golden.header["calibrations"]
        return tuple(name for name in LOW_PRECISION if name in known or self.refusal(name) is not None)

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The dtypes of L3 in which the reference has to run."""
        return tuple(name for name in self.low_precisions if self.refusal(name) is None)

    def refusal(self, dtype: str, attn: str | None = None) -> str | None:
        """Why one of the two models cannot run in a low precision, or the candidate with a backend; else None."""
        reference = self.golden.config if self.golden is not None else read_config(self.reference or self.candidate)
        return refusal(read_config(self.candidate), reference, dtype, attn)

    @property
    def too_large_for_kernels(self) -> bool:
        """Whether L3 would take too long on this device."""
        return self.device == "cpu" and stored_elements(self.candidate) > CPU_LIMIT

    def plan(self) -> RunPlan:
        """The precision of L2 and L4, and how much of both models is in memory at a time."""
        asked = WIDE.get(self.dtype or "")
        narrowest, widest = (asked, asked) if asked else (4, 8)
        candidate, layers = stored_elements(self.candidate), largest_layer(self.candidate)
        if self.golden is not None:
            if self.golden.header["dtype"] == "float32":
                narrowest = widest = 4
            columns = prompt_length(candidate) * int(self.golden.header["vocab"])
            return plan_run(0, candidate, columns, available_bytes(), narrowest, widest, layers)
        assert self.reference is not None
        reference, layers = stored_elements(self.reference), layers + largest_layer(self.reference)
        columns = prompt_length(reference) * vocabulary(self.reference)
        return plan_run(reference, candidate, columns, available_bytes(), narrowest, widest, layers)
