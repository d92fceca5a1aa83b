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
    """The readings of `compared_stages` on the diagnosis prompt."""
    return tuple(reading for reading, _ in compared_stages(candidate, evidence, diagnosis_prompt(evidence.prompts)))


def compared_stages(candidate: ModelRunner, evidence: Evidence, index: int) -> Iterator[tuple[Reading, Tensor]]:
    """A reading and the reference's values (tokens, width) of each stage that both models have, in order, on a prompt.

    Nothing where the evidence has no hidden states of that prompt, or the candidate cannot run it.
    """
    expected = evidence.stages(index)
    if not expected:
        return
    try:
        found = dict(stages_of(candidate, evidence.prompts[index]))
    except (RuntimeError, ValueError, IndexError, TypeError):
        return
    for name, true in expected:
        if name in found and found[name].shape[0] == true.shape[0]:
            yield row_error(name, found[name], true), true


def row_error(name: str, found: Tensor, true: Tensor) -> Reading:
    """Both (tokens, width), each row in units of the true one: positions of one stage may differ by 1e8 in size."""
    width = min(found.shape[-1], true.shape[-1])
    sizes = true[:, :width].double().square().mean(-1, keepdim=True).sqrt()  # (tokens, 1)
    units = torch.where(sizes > 0, sizes, 1.0)  # a row of zeros counts as it is
    meter = ErrorMeter()
    meter.add(name, found[:, :width] / units, true[:, :width] / units)
    return meter.total(name, 1.0)
