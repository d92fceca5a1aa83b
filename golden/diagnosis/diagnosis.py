"""Diagnosis after a failed L2: where the two models first differ, and which single mistake explains it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golden.diagnosis.hypotheses import config_hypotheses, weight_hypotheses
from golden.diagnosis.hypothesis import Hypothesis
from golden.errors import GoldenError
from golden.evidence.error_meter import ErrorMeter
from golden.evidence.live import Evidence
from golden.evidence.stages import Stages, stages_of
from golden.faults.model_copy import Patient, relink
from golden.levels.function import Budget
from golden.models.anatomy import read_anatomy
from golden.models.folders import read_config, stored_elements
from golden.models.loading import load_model
from golden.models.running import ModelRunner
from golden.verdict import Reading

LARGEST = 500_000_000
"""Hypotheses are tried on models of up to this many weights, because each costs a forward pass."""


def first_divergence(candidate: ModelRunner, evidence: Evidence, budget: Budget) -> str | None:
    """The first stage of the forward pass at which the candidate differs from the reference, or None.

    Also None where the evidence has no hidden states, or the two models have no stage in common.
    """
    expected_stages = evidence.stages()
    if not expected_stages:
        return None
    found_stages = dict(_stages(candidate, evidence))
    for name, expected in expected_stages:
        found = found_stages.get(name)
        if found is None or found.shape[0] != expected.shape[0]:
            continue
        reading = _relative(name, found, expected)
        if not reading.rms <= 10.0 * budget.rms:
            return f"{name}: rms {reading.rms:.3g}, max {reading.max:.3g} of its size"
    return None  # the diagnosis prompt does not show the fault


def _stages(candidate: ModelRunner, evidence: Evidence) -> Stages:
    try:
        return stages_of(candidate, evidence.prompts)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return []


def _relative(name: str, found: Tensor, expected: Tensor) -> Reading:
    """Both (tokens, width), each row in units of the expected one: positions of one stage may differ by 1e8 in size."""
    width = min(found.shape[-1], expected.shape[-1])
    sizes = expected[:, :width].double().square().mean(-1, keepdim=True).sqrt()
    sizes = torch.where(sizes > 0, sizes, 1.0)
    meter = ErrorMeter()
    meter.add(name, found[:, :width] / sizes, expected[:, :width] / sizes)
    return meter.total(name, 1.0)


@dataclass(frozen=True)
class Suspect:
    """A failed candidate: its folder, its model, and the first stage where it differs from the reference, if known."""

    folder: Path
    runner: ModelRunner
    divergence: str | None


def explain(suspect: Suspect, evidence: Evidence, budget: Budget, scratch: Path) -> str | None:
    """The one mistake without which the candidate would pass, or None where no single one explains it.

    Every hypothesis that fits the place of the divergence is tried: the mistake is undone in the candidate, in memory
    or in a changed config with links to the weights, and the candidate runs one short prompt. Models of more than 500 M
    weights are not tried, nor models that do not fit into memory.

    Args:
        scratch: an empty folder for changed configs.
    """
    if suspect.runner.loaded.stream is not None or stored_elements(suspect.folder) > LARGEST:
        return None
    config = read_config(suspect.folder)
    weights = suspect.runner.model.state_dict()
    try:
        patient = Patient(weights, config, read_anatomy(config, weights))
    except (KeyError, TypeError, AttributeError):  # an architecture whose parts `read_anatomy` does not know
        return None
    for hypothesis, reading in _trials(suspect, evidence, budget, patient, scratch):
        if budget.keeps(reading):
            return f"{hypothesis.claim}: after undoing this the rms is {reading.rms:.1e}"
    return None


def _trials(
    suspect: Suspect, evidence: Evidence, budget: Budget, patient: Patient, scratch: Path
) -> Iterator[tuple[Hypothesis, Reading]]:
    index = _failing_prompt(suspect.runner, evidence, budget)
    if index is None:
        return
    for hypothesis in weight_hypotheses(patient):
        if not hypothesis.fits(suspect.divergence):
            continue
        touched = {key: patient.weights[key].clone() for key in hypothesis.keys(patient)}
        hypothesis.undo(patient)
        yield hypothesis, _reading(suspect.runner, evidence, index)
        for key, before in touched.items():
            patient.weights[key].copy_(before)
    for number, hypothesis in enumerate(config_hypotheses(patient, evidence.config)):
        if hypothesis.fits(suspect.divergence):
            changed = Patient(patient.weights, read_config(suspect.folder), patient.anatomy)
            hypothesis.undo(changed)
            repaired = _reloaded(suspect, scratch / str(number), changed.config)
            if repaired is not None:
                yield hypothesis, _reading(repaired, evidence, index)


def _reloaded(suspect: Suspect, folder: Path, config: dict[str, Any]) -> ModelRunner | None:
    """The candidate under another config, or None where that config does not fit its weights."""
    try:
        loaded = load_model(relink(suspect.folder, folder, config), suspect.runner.model.dtype)
    except GoldenError:
        return None
    return None if loaded.problems else ModelRunner(loaded)


def _failing_prompt(candidate: ModelRunner, evidence: Evidence, budget: Budget) -> int | None:
    """Index of the shortest prompt that shows the fault. On any other prompt every hypothesis would look right."""
    for index in sorted(range(len(evidence.prompts)), key=lambda i: len(evidence.prompts[i].ids)):
        if not budget.keeps(_reading(candidate, evidence, index)):
            return index
    return None


def _reading(candidate: ModelRunner, evidence: Evidence, index: int) -> Reading:
    meter = ErrorMeter()
    meter.add("hypothesis", *evidence.pair(index, candidate.logits(evidence.prompts[index].ids)))
    return meter.total("hypothesis", evidence.std)
