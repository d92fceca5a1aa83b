"""The error after each part of the forward pass, layer by layer: a picture of where two models part."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from golden.evidence.error_meter import ErrorMeter
from golden.evidence.live import Evidence
from golden.evidence.stages import diagnosis_prompt, stages_of
from golden.models.running import ModelRunner
from golden.verdict import Reading

SLACK = 10.0
"""A stage differs where its rms is more than this times the budget of the logits."""


def stage_readings(candidate: ModelRunner, evidence: Evidence) -> tuple[Reading, ...]:
    """One reading a stage that both models have, in order, on the diagnosis prompt.

    Each position counts in units of its own size, because positions of one stage may differ by 1e8 in size. Empty where
    the evidence has no hidden states, or the candidate cannot run the prompt.
    """
    index = diagnosis_prompt(evidence.prompts)
    expected = evidence.stages(index)
    if not expected:
        return ()
    try:
        found = dict(stages_of(candidate, evidence.prompts[index]))
    except (RuntimeError, ValueError, IndexError, TypeError):
        return ()
    return tuple(_readings(expected, found))


def _readings(expected: list[tuple[str, Tensor]], found: dict[str, Tensor]) -> Iterator[Reading]:
    for name, true in expected:
        if name in found and found[name].shape[0] == true.shape[0]:
            yield _relative(name, found[name], true)


def _relative(name: str, found: Tensor, true: Tensor) -> Reading:
    """Both (tokens, width)."""
    width = min(found.shape[-1], true.shape[-1])
    sizes = true[:, :width].double().square().mean(-1, keepdim=True).sqrt()  # (tokens, 1)
    units = sizes + (sizes == 0).to(torch.float64)  # a position of zeros counts as it is
    meter = ErrorMeter()
    meter.add(name, found[:, :width] / units, true[:, :width] / units)
    return meter.total(name, 1.0)
