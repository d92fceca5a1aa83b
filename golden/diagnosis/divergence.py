"""Where two models first differ: the first stage of the forward pass whose values are not those of the reference."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from golden.errors import CannotRunError
from golden.evidence.live import Evidence
from golden.evidence.prompts import Prompt
from golden.evidence.stages import diagnosis_prompt, stage_value
from golden.levels.by_layer import SLACK, compared_stages, row_error
from golden.levels.function import Budget
from golden.models.running import ModelRunner
from golden.verdict import Reading


@dataclass(frozen=True)
class Divergence:
    """The first stage that differs, on one prompt. ``expected``: the reference's values (tokens, width)."""

    stage: str
    reading: Reading
    expected: Tensor
    prompt: Prompt

    def __str__(self) -> str:
        return f"{self.stage}: rms {self.reading.rms:.3g}, max {self.reading.max:.3g} of its size"

    def is_gone(self, candidate: ModelRunner, limit: float) -> bool:
        """Whether the candidate has the reference's values at this stage now; not where it cannot be run."""
        try:
            found = stage_value(candidate, self.prompt, self.stage)
        except CannotRunError:
            return False
        if found is None or found.shape[0] != self.expected.shape[0]:
            return False
        return row_error(self.stage, found, self.expected).rms <= SLACK * limit


def find_divergence(candidate: ModelRunner, evidence: Evidence, budget: Budget, index: int | None) -> Divergence | None:
    """The first stage at which the candidate differs, or None.

    Also None where the evidence has no hidden states, or the two models have no stage in common.

    Args:
        index: a prompt that shows the fault; it is asked where the diagnosis prompt does not.
    """
    shortest = diagnosis_prompt(evidence.prompts)
    for number in dict.fromkeys((shortest, shortest if index is None else index)):
        for reading, expected in compared_stages(candidate, evidence, number):
            if not reading.rms <= SLACK * budget.rms:
                return Divergence(reading.name, reading, expected, evidence.prompts[number])
    return None
