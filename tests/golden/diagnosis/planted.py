"""Planting mistakes and asking the diagnosis, with the reference opened once a family."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from converters import convert
from golden.diagnosis.diagnosis import Diagnosis, FailedCandidate, diagnose
from golden.evidence.live import LiveEvidence, open_reference
from golden.evidence.prompts import reference_prompts
from golden.faults.model_copy import Patient, admit, discharge
from golden.levels.function import FLOAT64, judge_function
from golden.models.hot import make_hot
from golden.models.loading import load_model
from golden.models.running import ModelRunner
from golden.verdict import Status

sys.path.insert(0, str(Path(__file__).parent))
from mistakes import Mistake, true_place


@dataclass(frozen=True)
class ConvertedModel:
    """A hot model of a family, and its conversion, to plant mistakes into."""

    source: Path
    converted: Path
    evidence: LiveEvidence
    sound: Patient


def open_converted(family: str, seed: int, folder: Path) -> ConvertedModel:
    source = make_hot(family, folder / "source", seed)
    ours = convert(source, to="mixformer", output=folder / "ours").output
    prompts = lambda runner, used: reference_prompts(source, runner.model.config, used)  # noqa: E731
    return ConvertedModel(source, ours, open_reference(source, prompts, torch.float64), admit(ours))


@dataclass(frozen=True)
class Outcome:
    """What the diagnosis said of planted mistakes. ``failed``: L2 found that something is wrong at all."""

    names: tuple[str, ...]
    place: str
    failed: bool
    said: Diagnosis
    patterns: tuple[str, ...]

    @property
    def place_is_right(self) -> bool:
        """A multiplier of embeddings may act inside of their module, or after it."""
        said = str(self.said.first_divergence)
        return said.startswith(self.place) or (
            self.place == "embeddings" and self.late and said.startswith("layer 0, norm 1")
        )

    @property
    def late(self) -> bool:
        """Whether the mistake shows after the module of the embeddings."""
        return any(name.startswith("multiplier of embeddings") for name in self.names)

    @property
    def named(self) -> tuple[bool, ...]:
        """For each planted mistake whether a proved explanation names it."""
        claims = [one.claim for one in self.said.explanations if one.proved]
        return tuple(any(re.search(pattern, claim) for claim in claims) for pattern in self.patterns)

    @property
    def wrong(self) -> list[str]:
        """Claims that fit none of what was planted."""
        claims = [one.claim for one in self.said.explanations if one.kind != "unexplained"]
        return [claim for claim in claims if not any(re.search(pattern, claim) for pattern in self.patterns)]


def diagnosed(model: ConvertedModel, planted: Sequence[Mistake], seed: int, folder: Path) -> Outcome:
    wrong, rng = model.sound.clone(), random.Random(seed)
    for mistake in planted:
        mistake.plant(wrong, rng)
    candidate = discharge(wrong, model.converted, folder)
    runner = ModelRunner(load_model(candidate, torch.float64))
    level = judge_function(runner, model.evidence, FLOAT64)
    (folder / "scratch").mkdir()
    failed = FailedCandidate(candidate, runner, model.source, level.number is not None)
    said = diagnose(failed, model.evidence, FLOAT64, folder / "scratch")
    names, patterns = tuple(m.name for m in planted), tuple(m.claim for m in planted)
    return Outcome(names, true_place(model.sound, wrong), level.status is Status.FAIL, said, patterns)
