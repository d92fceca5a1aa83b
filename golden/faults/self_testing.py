"""``self_test``: checks that every planted fault fails and every correct variant passes.

Hot models of every family are converted and faults are planted into the candidates. L2 alone must catch each fault, and
the probes of L3 each kernel fault. Correct variants must pass.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
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
from golden.faults.in_processes import call_all, usable_jobs
from golden.faults.kernel_faults import kernel_faults
from golden.faults.model_copy import admit, discharge
from golden.faults.remembered import RememberedEvidence
from golden.levels.function import FLOAT64, judge_function
from golden.levels.kernels import PROBE_RATIO, probe_ratios, refusal
from golden.models.folders import read_config
from golden.models.hot import has_recipe, lacking, make_hot, own_functions
from golden.models.loading import load_model, silenced
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

    ``untried`` names the families that no hot model is known for: their FAMILY has no ``hot`` recipe. ``lacking`` says
    of the others that are left out which class the installed transformers does not have.
    """

    trials: tuple[Trial, ...]
    untried: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

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
            "lacking": list(self.lacking),
            "trials": [trial.to_json() for trial in self.trials],
        }


def self_test(
    families: Sequence[str] | None = None,
    *,
    seeds: int = 1,
    golden_form: str | None = None,
    progress: Progress | None = None,
    jobs: int | None = 1,
) -> SelfTest:
    """Judge planted faults and correct variants of hot models.

    Args:
        families: by default every family that converters has, a hot model is known for and transformers has a class of.
        seeds: number of models per family, each with faults in other places.
        golden_form: ``full`` or ``compact`` judges from a golden file in place of the live reference.
        progress: called as ``progress(what, done, total)``.
        jobs: number of models that are tried at a time, each in a process of its own; None for as many as there are
            cores and memory for. 1 starts no process. The others import the main module again: a script that asks for
            more does so under ``if __name__ == "__main__"``.

    Raises:
        UnknownLevelError: no hot model is known for a family.
        MissingClassError: a family was named whose class the installed transformers does not have.
        ConversionError: a family does not convert.
        UnverifiableError: one of the processes ended before its time.
    """
    known, unknown = known_families()
    lacks = {family: sentence for family in known if (sentence := lacking(family))}
    chosen = [family for family in known if family not in lacks] if families is None else families
    models = [(family, seed) for family in chosen for seed in range(seeds)]

    def told(first: int, ended: int) -> None:
        if progress is not None:
            progress(f"self-test: {models[first][0]}", ended, len(models))

    with tempfile.TemporaryDirectory(prefix="golden-") as place:  # removed here, though a process was ended
        cases = [(family, seed, golden_form, Path(place)) for family, seed in models]
        found = call_all(try_model, cases, usable_jobs() if jobs is None else jobs, told)
    trials = tuple(chain.from_iterable(found))
    if families is not None:
        return SelfTest(trials)
    return SelfTest(trials, unknown, tuple(f"{family}: {sentence}" for family, sentence in lacks.items()))


def try_model(family: str, seed: int, golden_form: str | None, place: Path) -> list[Trial]:
    """All trials of one hot model; what they write into ``place`` is removed."""
    with (
        tempfile.TemporaryDirectory(dir=place) as scratch,
        threads(1),  # tiny models need no more
        silenced(),
    ):
        return list(_trials(family, seed, golden_form, Path(scratch)))


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
        opened = open_reference(
            source, lambda runner, used: reference_prompts(source, runner.model.config, used), torch.float64
        )
        evidence = RememberedEvidence(**vars(opened))
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
    sound = None
    for fault in code_faults():
        sound = sound or ModelRunner(load_model(candidate, torch.float64))
        if fault.plant(sound.model):
            sick, sound = sound, None
            level = judge_function(sick, evidence, FLOAT64)
            yield Trial(family, fault.name, "code", seed, level.number, level.status is Status.FAIL)


def judge_alone(folder: Path, evidence: Evidence) -> LevelResult:
    """L2 in float64 and nothing else."""
    return judge_function(ModelRunner(load_model(folder, torch.float64)), evidence, FLOAT64)


def _planted_kernels(family: str, seed: int, candidate: Path, evidence: Evidence) -> Iterator[Trial]:
    config = read_config(candidate)
    excluded = {dtype for dtype in LOW_PRECISION if refusal(config, evidence.config, dtype)}
    calibrations = {dtype: evidence.calibration(dtype) for dtype in LOW_PRECISION if dtype not in excluded}
    sound: dict[str, ModelRunner] = {}
    for fault in kernel_faults():
        if fault.dtype in excluded:
            continue
        if fault.dtype not in sound:
            sound[fault.dtype] = ModelRunner(load_model(candidate, LOW_PRECISION[fault.dtype], "sdpa"))
        if fault.plant(sound[fault.dtype]):
            sick = sound.pop(fault.dtype)
            worst = max(probe_ratios(sick, calibrations[fault.dtype]).values(), default=0.0)
            yield Trial(family, fault.name, "kernel", seed, worst, worst > PROBE_RATIO)
