"""``self_test``: checks that every planted fault fails and every correct variant passes.

Hot models of every family are converted and faults are planted into the candidates. L2 alone must catch each fault, and
the probes of L3 each kernel fault. Correct variants must pass.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from golden.evidence.calibration import LOW_PRECISION
from golden.evidence.golden_file import read_golden
from golden.evidence.live import Evidence, open_reference
from golden.evidence.prompts import reference_prompts
from golden.evidence.recording import record
from golden.faults.catalogue import catalogue
from golden.faults.code_faults import code_faults
from golden.faults.healthy import healthy_variants, threads
from golden.faults.kernel_faults import kernel_faults
from golden.faults.model_copy import admit, discharge
from golden.levels.function import FLOAT64, judge_function
from golden.levels.kernels import PROBE_RATIO, probe_ratios, refusal
from golden.models.folders import read_config
from golden.models.hot import has_recipe, make_hot, own_functions
from golden.models.loading import load_model
from golden.models.running import ModelRunner
from golden.verdict import LevelResult, Status, finite_or_none
from golden.watching import Progress


@dataclass(frozen=True)
class Trial:
    """One planted fault or correct variant. ``kind`` is weight, mapping, config, code, kernel or healthy; ``number``
    what was measured; ``right`` whether the verdict was."""

    family: str
    name: str
    kind: str
    seed: int
    number: float | None
    right: bool

    def to_json(self) -> dict[str, Any]:
        number = None if self.number is None else finite_or_none(self.number)
        return {**vars(self), "number": number}


@dataclass(frozen=True)
class SelfTest:
    """All trials. The self-test passes when every fault was caught and every correct variant passed.

    ``untried`` names the families that no hot model is known for: their FAMILY has no ``hot`` recipe.
    """

    trials: tuple[Trial, ...]
    untried: tuple[str, ...] = ()

    @property
    def missed(self) -> tuple[Trial, ...]:
        """Faults that were not caught."""
        return tuple(trial for trial in self.trials if trial.kind != "healthy" and not trial.right)

    @property
    def false_alarms(self) -> tuple[Trial, ...]:
        """Correct variants that did not pass."""
        return tuple(trial for trial in self.trials if trial.kind == "healthy" and not trial.right)

    @property
    def passed(self) -> bool:
        return bool(self.trials) and not self.missed and not self.false_alarms

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        faults = sum(trial.kind != "healthy" for trial in self.trials)
        return {
            "passed": self.passed,
            "faults": faults,
            "caught": faults - len(self.missed),
            "healthy": len(self.trials) - faults,
            "false_alarms": len(self.false_alarms),
            "untried": list(self.untried),
            "trials": [trial.to_json() for trial in self.trials],
        }


def self_test(
    families: Sequence[str] | None = None,
    *,
    seeds: int = 1,
    golden_form: str | None = None,
    progress: Progress | None = None,
) -> SelfTest:
    """Judge planted faults and correct variants of hot models.

    Args:
        families: by default every family that converters has and a hot model is known for.
        seeds: number of models per family, each with faults in other places.
        golden_form: ``full`` or ``compact`` judges from a golden file in place of the live reference.
        progress: called as ``progress(what, done, total)``.

    Raises:
        UnknownLevelError: no hot model is known for a family.
        ConversionError: a family does not convert.
    """
    known, unknown = known_families()
    chosen = known if families is None else tuple(families)
    trials: list[Trial] = []
    for number, (family, seed) in enumerate((family, seed) for family in chosen for seed in range(seeds)):
        if progress is not None:
            progress(f"self-test: {family}", number, len(chosen) * seeds)
        with (
            tempfile.TemporaryDirectory(prefix="golden-") as scratch,
            threads(1),
        ):  # tiny models need no more
            trials += _trials(family, seed, golden_form, Path(scratch))
    return SelfTest(tuple(trials), unknown if families is None else ())


def known_families() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Families of converters with a hot model, and those without."""
    names = own_functions()
    return tuple(filter(has_recipe, names)), tuple(name for name in names if not has_recipe(name))


def _trials(family: str, seed: int, golden_form: str | None, scratch: Path) -> Iterator[Trial]:
    from converters import convert

    source = make_hot(family, scratch / "source", seed)
    candidate = scratch / "candidate"
    convert(source, to="mixformer", output=candidate)
    evidence: Evidence
    if golden_form is None:
        evidence = open_reference(
            source, lambda runner, used: reference_prompts(source, runner.model.config, used), torch.float64
        )
    else:
        evidence = read_golden(record(source, scratch / "reference.golden", form=golden_form))
    yield from _planted(family, seed, candidate, evidence, scratch)
    yield from _planted_code(family, seed, candidate, evidence)
    yield from _planted_kernels(family, seed, candidate, evidence)
    for number, variant in enumerate(healthy_variants()):
        level = variant.judge(candidate, evidence, scratch / f"healthy-{number}")
        if level.status is Status.NOT_RUN:  # a dtype that the model excludes
            continue
        yield Trial(family, variant.name, "healthy", seed, level.number, level.status is Status.PASS)


def _planted(family: str, seed: int, candidate: Path, evidence: Evidence, scratch: Path) -> Iterator[Trial]:
    sound = admit(candidate)
    for fault in catalogue(sound):
        patient = sound.clone()
        fault.plant(patient, random.Random(seed))
        level = judge_alone(discharge(patient, candidate, scratch / "sick"), evidence)
        yield Trial(family, fault.name, fault.kind, seed, level.number, level.status is Status.FAIL)


def _planted_code(family: str, seed: int, candidate: Path, evidence: Evidence) -> Iterator[Trial]:
    for fault in code_faults():
        runner = ModelRunner(load_model(candidate, torch.float64))
        if fault.plant(runner.model):
            level = judge_function(runner, evidence, FLOAT64)
            yield Trial(family, fault.name, "code", seed, level.number, level.status is Status.FAIL)


def judge_alone(folder: Path, evidence: Evidence) -> LevelResult:
    """L2 in float64 and nothing else."""
    return judge_function(ModelRunner(load_model(folder, torch.float64)), evidence, FLOAT64)


def _planted_kernels(family: str, seed: int, candidate: Path, evidence: Evidence) -> Iterator[Trial]:
    config = read_config(candidate)
    excluded = {dtype for dtype in LOW_PRECISION if refusal(config, evidence.config, dtype)}
    calibrations = {dtype: evidence.calibration(dtype) for dtype in LOW_PRECISION if dtype not in excluded}
    for fault in kernel_faults():
        if fault.dtype in excluded:
            continue
        runner = ModelRunner(load_model(candidate, LOW_PRECISION[fault.dtype], "sdpa"))
        if fault.plant(runner):
            worst = max(probe_ratios(runner, calibrations[fault.dtype]).values(), default=0.0)
            yield Trial(family, fault.name, "kernel", seed, worst, worst > PROBE_RATIO)
