"""Where two models first differ: the first stage of the forward pass whose values are not those of the reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from golden.evidence.error_meter import ErrorMeter
from golden.evidence.live import Evidence
from golden.evidence.prompts import Prompt
from golden.evidence.stages import Stages, diagnosis_prompt, stage_value, stages_of
from golden.levels.function import Budget
from golden.models.running import ModelRunner
from golden.verdict import Reading

SLACK = 10.0
"""A stage differs above this many budgets of the logits: hidden states are compared row by row."""


@dataclass(frozen=True)
class Divergence:
    """The first stage that differs, on one prompt. ``expected``: the reference's values (tokens, width)."""

    stage: str
    reading: Reading
    expected: Tensor
    prompt: Prompt

    def __str__(self) -> str:
        return f"{self.stage}: rms {self.reading.rms:.3g}, max {self.reading.max:.3g} of its size"

    def is_mended(self, candidate: ModelRunner, limit: float) -> bool:
        """Whether the candidate has the reference's values at this stage now."""
        found = stage_value(candidate, self.prompt, self.stage)
        if found is None or found.shape[0] != self.expected.shape[0]:
            return False
        return relative(self.stage, found, self.expected).rms <= SLACK * limit


def find_divergence(candidate: ModelRunner, evidence: Evidence, budget: Budget, index: int | None) -> Divergence | None:
    """The first stage at which the candidate differs, or None.

    Also None where the evidence has no hidden states, or the two models have no stage in common.

    Args:
        index: a prompt that shows the fault; it is asked where the diagnosis prompt does not.
    """
    shortest = diagnosis_prompt(evidence.prompts)
    for number in dict.fromkeys((shortest, shortest if index is None else index)):
        prompt = evidence.prompts[number]
        found = dict(_stages(candidate, prompt))
        for name, expected in evidence.stages(number):
            values = found.get(name)
            if values is None or values.shape[0] != expected.shape[0]:
                continue
            reading = relative(name, values, expected)
            if not reading.rms <= SLACK * budget.rms:
                return Divergence(name, reading, expected, prompt)
    return None


def _stages(candidate: ModelRunner, prompt: Prompt) -> Stages:
    try:
        return stages_of(candidate, prompt)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return []


def relative(name: str, found: Tensor, expected: Tensor) -> Reading:
    """Both (tokens, width), each row in units of the expected one: positions of one stage may differ by 1e8 in size."""
    width = min(found.shape[-1], expected.shape[-1])
    sizes = expected[:, :width].double().square().mean(-1, keepdim=True).sqrt()
    sizes = torch.where(sizes > 0, sizes, 1.0)
    meter = ErrorMeter()
    meter.add(name, found[:, :width] / sizes, expected[:, :width] / sizes)
    return meter.total(name, 1.0)
