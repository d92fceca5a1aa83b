"""``compare``: one candidate, one reference, one verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from golden.errors import FolderError, MissingReferenceError, UnknownLevelError
from golden.evidence import Evidence, Progress, reference_evidence
from golden.function import FLOAT64, Budget, float32_budget, float32_floor, judge_function
from golden.loading import load_model, read_config, stored_elements
from golden.memory import RunPlan, available_bytes, plan_run
from golden.prompts import Prompt, make_prompts, prompt_length
from golden.running import ModelRunner
from golden.structure import judge_structure_and_weights
from golden.verdict import LEVELS, LevelResult, Status, Verdict, conclude

ITEMSIZES = {"float64": (8, 8), "float32": (4, 4)}
"""Widths that a dtype asked for allows L2 to run in; without one, float64 where it fits and float32 where not."""


@dataclass(frozen=True)
class Case:
    """What is to be judged and how."""

    candidate: Path
    reference: Path
    wanted: frozenset[str]
    dtype: str | None = None
    attn: str | None = None
    progress: Progress | None = None


def compare(
    candidate: Path | str,
    reference: Path | str | None = None,
    *,
    golden: Path | str | None = None,
    levels: Sequence[str] | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    attn: str | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Judge whether a model folder computes the function of its reference.

    Args:
        candidate: folder with config.json and safetensors.
        reference: folder of the model it was made from; any family that transformers knows.
        levels: names out of ``golden.verdict.LEVELS``; all by default. Levels not asked for are listed as NOT RUN.
        dtype: ``float64`` or ``float32`` forces the precision of L2.
        attn: ``eager`` or ``sdpa``: the candidate's attention backend; the model's default if None.
        progress: called as ``progress(what, done, total)``.

    Raises:
        FolderError: a folder cannot be read or built.
        UnusableReferenceError, NondeterministicReferenceError: the reference cannot serve as one.
        MissingReferenceError: there is nothing to compare with.
        UnknownLevelError: a name in ``levels`` or ``dtype`` is not known.
    """
    if reference is None:
        raise MissingReferenceError(f"{candidate}: nothing to compare with; give a reference folder or a golden file")
    wanted = _wanted(levels)
    if dtype is not None and dtype not in ITEMSIZES:
        raise UnknownLevelError(f"dtype {dtype!r} is not one of {', '.join(ITEMSIZES)}")
    case = Case(Path(candidate), Path(reference), wanted, dtype, attn, progress)
    for folder in (case.candidate, case.reference):
        if not folder.is_dir():
            raise FolderError(f"{folder}: not a folder; expected config.json and safetensors in one")
        read_config(folder)
    results = sorted(_run_levels(case), key=lambda level: level.name)
    return Verdict(conclude(results), tuple(results), str(candidate), str(reference), versions=installed_versions())


def _wanted(levels: Sequence[str] | None) -> frozenset[str]:
    wanted = frozenset(LEVELS if levels is None else levels)
    if unknown := sorted(wanted - set(LEVELS)):
        raise UnknownLevelError(f"level {unknown[0]!r} is not one of {', '.join(LEVELS)}")
    return wanted


def _run_levels(case: Case) -> Iterator[LevelResult]:
    if case.wanted & {"L0", "L1"}:
        yield from judge_structure_and_weights(case.candidate, case.reference, case.wanted)
    if "L2" in case.wanted:
        yield from _run_models(case)
    yield from _not_run(set(LEVELS) - case.wanted, "not asked for")


def _not_run(names: Iterable[str], reason: str) -> Iterator[LevelResult]:
    for name in names:
        yield LevelResult(name, Status.NOT_RUN, detail=reason, required=False)


def _run_models(case: Case) -> Iterator[LevelResult]:
    """The levels that run both models, which are loaded once."""
    plan = _plan(case)
    if plan.need > plan.have:
        text = f"needs {plan.need / 2**30:.1f} GiB of memory, {plan.have / 2**30:.1f} GiB are available"
        yield LevelResult("L2", Status.UNVERIFIED, detail=text)
        return
    dtype = torch.float64 if plan.itemsize == 8 else torch.float32
    with ExitStack() as stack:
        evidence = stack.enter_context(
            reference_evidence(case.reference, lambda r, used: _prompts(case.reference, r, used), dtype, plan.together)
        )
        budget = _budget(plan, evidence)
        candidate = ModelRunner(load_model(case.candidate, dtype, case.attn))
        yield judge_function(candidate, evidence, budget, case.progress)


def _prompts(folder: Path, runner: ModelRunner, used: int) -> tuple[Prompt, ...]:
    return make_prompts(folder, runner.model.config, used, stored_elements(folder))


def _plan(case: Case) -> RunPlan:
    reference, candidate = stored_elements(case.reference), stored_elements(case.candidate)
    config = read_config(case.reference)
    vocab = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size") or 0
    narrowest, widest = ITEMSIZES.get(case.dtype or "", (4, 8))
    return plan_run(reference, candidate, prompt_length(reference) * int(vocab), available_bytes(), narrowest, widest)


def _budget(plan: RunPlan, evidence: Evidence) -> Budget:
    return FLOAT64 if plan.itemsize == 8 else float32_budget(float32_floor(evidence))


def installed_versions() -> dict[str, str]:
    """Versions of everything whose numerics a verdict rests on."""
    found = {}
    for name in ("mixformer", "torch", "transformers", "safetensors", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
