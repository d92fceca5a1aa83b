"""Running the levels that need models, L2 to L4: each model is loaded once, and freed before the next needs memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from golden.case import Case
from golden.diagnosis.diagnosis import FailedCandidate, diagnose
from golden.errors import MissingDeviceError
from golden.evidence.live import Evidence, Opener, ReferenceTerms, reference_evidence
from golden.evidence.prompts import reference_prompts
from golden.levels.behaviour import judge_behaviour
from golden.levels.by_layer import SLACK, stage_readings
from golden.levels.function import FLOAT64, Budget, float32_budget, judge_function
from golden.levels.in_step import run_in_step
from golden.levels.kernels import check_device, judge_kernels
from golden.models.folders import read_config
from golden.models.loading import FLASH, check_flash, says_mixformer
from golden.models.lossy import cast_of, rows_of
from golden.models.memory import RunPlan
from golden.models.running import ModelRunner
from golden.models.streamed_loading import open_streamed, open_whole
from golden.verdict import Explanation, LevelResult, Reading, Status

MODEL_LEVELS = frozenset({"L2", "L3", "L4"})
UNCALIBRATED = "the golden file does not hold the reference's own error in bfloat16 or float16; record it again"
TOO_LARGE = "the models do not fit into memory"


@dataclass
class Outcome:
    """Results of the levels that ran models, and the diagnosis where L2 failed."""

    levels: list[LevelResult] = field(default_factory=list)
    first_divergence: str | None = None
    hypothesis: str | None = None
    stages: tuple[Reading, ...] = ()
    stage_budget: float | None = None
    explanations: tuple[Explanation, ...] = ()


def run_session(case: Case) -> Outcome:
    """L2, L4 and L3, as far as they are wanted and fit into memory."""
    _check_machine(case)
    plan = case.plan()
    if reason := _obstacle(case, plan):
        return Outcome([_unverified(name, reason) for name in sorted(case.wanted & MODEL_LEVELS)])
    outcome = Outcome()
    if plan.streamed:
        outcome.levels += _levels_of_whole_models(case)
        case = replace(case, wanted=case.wanted - {"L3", "L4"})
    if not case.wanted & MODEL_LEVELS:
        return outcome
    case.say("running the reference")
    with _evidence(case, plan) as evidence:
        if case.wanted & {"L2", "L4"}:
            _judge_wide(case, plan, evidence, outcome)
        if "L3" in case.wanted:
            outcome.levels += map(case.watch.told, _judge_low(case, evidence))
    return outcome


def _check_machine(case: Case) -> None:
    """Raises MissingDeviceError for a missing device or backend, or one that no such model can use, before they run."""
    check_device(case.device)
    if case.attn == "flash" and "L3" in case.wanted and says_mixformer(read_config(case.candidate)):
        if all(reasons := [case.refusal(dtype, FLASH) for dtype in case.low_precisions]) and reasons:
            raise MissingDeviceError(f"{case.candidate}: flash attention cannot run this model: {reasons[0]}")
        check_flash(case.candidate, case.device)


def _obstacle(case: Case, plan: RunPlan) -> str | None:
    """Why no model can be run, or None."""
    if not plan.fits:
        return f"the models do not fit into memory: even layer by layer, judging {plan}"
    if case.golden is not None and cast_of(case.lossy_steps) is not None:
        return (
            "the candidate's weights were cast, the golden file was made before the cast; give the reference's folder"
        )
    if case.golden is not None and any(step.get("step") == "crop vocabulary" for step in case.lossy_steps):
        return "rows of the candidate's vocabulary were cut off, the golden file has all; give the reference's folder"
    return None


def _unverified(name: str, reason: str) -> LevelResult:
    return LevelResult(name, Status.UNVERIFIED, detail=reason)


def _levels_of_whole_models(case: Case) -> Iterator[LevelResult]:
    """L3 and L4 of models that are run layer by layer: each would read all weights dozens of times."""
    if "L4" in case.wanted:
        yield _unverified("L4", f"{TOO_LARGE}: greedy text and caches need whole models")
    if "L3" in case.wanted and case.too_large_for_kernels and case.attn != "flash":
        yield _kernels_not_run()
    elif "L3" in case.wanted:
        yield _unverified("L3", f"{TOO_LARGE}: kernels need whole models")


def _kernels_not_run() -> LevelResult:
    reason = "the model is too large for bfloat16 and float16 on a CPU; give another --device"
    return LevelResult("L3", Status.NOT_RUN, detail=reason, required=False)


@contextmanager
def _evidence(case: Case, plan: RunPlan) -> Iterator[Evidence]:
    if case.golden is not None:
        yield case.golden
        return
    folder = case.reference
    assert folder is not None
    calibrated = case.calibrated if "L3" in case.wanted and not case.too_large_for_kernels else ()
    other, steps = read_config(case.candidate), case.lossy_steps
    rows = rows_of(steps, other.get("vocab_size"))
    terms = ReferenceTerms(
        _dtype(plan), plan.together, _opener(plan), calibrated, cast_of(steps), _floor_of(case), rows
    )
    with reference_evidence(
        folder, lambda r, used: reference_prompts(folder, r.model.config, used, other), terms
    ) as evidence:
        yield evidence


def _opener(plan: RunPlan) -> Opener:
    return open_streamed if plan.streamed else open_whole


def _floor_of(case: Case) -> Path | None:
    """The folder whose rounding error is the floor of L3: the model of transformers, also where it is the candidate.

    A MixFormer rounds less than models of transformers: its norms round once, those of transformers twice. So a correct
    LLaMA that was converted back would fail if the floor were that of the MixFormer.
    """
    assert case.reference is not None
    ours = [says_mixformer(read_config(folder)) for folder in (case.reference, case.candidate)]
    return case.candidate if ours == [True, False] else None


def _dtype(plan: RunPlan) -> torch.dtype:
    return torch.float64 if plan.itemsize == 8 else torch.float32


def _judge_wide(case: Case, plan: RunPlan, evidence: Evidence, outcome: Outcome) -> None:
    """Loads the candidate for L2 and L4, and ends what is left of its passes."""
    case.say("loading the candidate")
    with closing(ModelRunner(_opener(plan)(case.candidate, _dtype(plan), case.wide_attention))) as candidate:
        _judge_one(case, plan, candidate, evidence, outcome)


def _judge_one(case: Case, plan: RunPlan, candidate: ModelRunner, evidence: Evidence, outcome: Outcome) -> None:
    """L2 and L4 with one candidate in memory, and the diagnosis if one of them fails."""
    begun = run_in_step(candidate, evidence, case.progress) if plan.streamed else []
    budget = FLOAT64 if plan.itemsize == 8 else float32_budget(evidence.spread())
    if "L2" in case.wanted:
        level = judge_function(candidate, evidence, budget, case.progress)
        level = _noted(level, f"{TOO_LARGE}: run layer by layer") if plan.streamed else level
        outcome.levels.append(case.watch.told(level))
        for model in begun:
            model.forget()
        if not plan.streamed and level.number is not None:
            outcome.stages, outcome.stage_budget = stage_readings(candidate, evidence), SLACK * budget.rms
    if "L4" in case.wanted:
        outcome.levels.append(case.watch.told(judge_behaviour(candidate, evidence, budget, case.progress)))
    failed = [level for level in outcome.levels if level.name == "L2" and level.status is Status.FAIL]
    if failed:
        _diagnose(case, candidate, evidence, budget, outcome, runs=failed[0].number is not None)


def _noted(level: LevelResult, note: str) -> LevelResult:
    return replace(level, detail="; ".join(text for text in (level.detail, note) if text))


def _diagnose(
    case: Case, candidate: ModelRunner, evidence: Evidence, budget: Budget, outcome: Outcome, *, runs: bool
) -> None:
    """Where the candidate parts from the reference, and why; of one that has no number by its files alone."""
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        failed = FailedCandidate(case.candidate, candidate, case.reference, runs)
        found = diagnose(failed, evidence, budget, Path(scratch))
    outcome.first_divergence, outcome.hypothesis = found.first_divergence, found.hypothesis
    outcome.explanations = found.explanations


def _judge_low(case: Case, evidence: Evidence) -> Iterator[LevelResult]:
    """L3 with eager or sdpa attention, and `L3 flash` where it was asked for."""
    if case.too_large_for_kernels:
        yield _kernels_not_run()
    elif not case.low_precisions:
        yield LevelResult("L3", Status.NOT_RUN, detail=UNCALIBRATED, required=False)
    else:
        yield judge_kernels(
            case.candidate, evidence, case.low_precisions, case.wide_attention, case.device, case.progress
        )
    if case.attn == "flash" and not case.low_precisions:
        yield _unverified("L3 flash", UNCALIBRATED)
    elif case.attn == "flash":
        yield judge_kernels(case.candidate, evidence, case.low_precisions, FLASH, case.device, case.progress)
    else:
        reason = "not asked for; give --attn flash on a machine with flash-attn"
        yield LevelResult("L3 flash", Status.NOT_RUN, detail=reason, required=False)
