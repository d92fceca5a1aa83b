"""``compare``: judges one candidate against a reference folder or a golden file, and returns one verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from converters.plan.baking import BAKE, STEP
from golden.case import ATTENTION, WIDE, Case
from golden.errors import MissingReferenceError, UnknownLevelError
from golden.evidence.calibration import LOW_PRECISION
from golden.evidence.golden_file import read_golden
from golden.evidence.versions import installed_versions
from golden.inputs import check_inputs
from golden.levels.against_golden import check_same_source, judge_structure_against
from golden.levels.structure import judge_structure_and_weights
from golden.models.failures import enough_memory
from golden.models.folders import recorded_steps
from golden.references import is_native
from golden.session import MODEL_LEVELS, Outcome, run_session
from golden.verdict import LEVELS, LevelResult, Status, Verdict, conclude
from golden.watching import Progress, Reached, Watch


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
    reached: Reached | None = None,
) -> Verdict:
    """Judge whether a model folder computes the function of its reference.

    Args:
        candidate: folder with config.json and safetensors.
        reference: folder of the model it was made from; any family that transformers knows.
        golden: golden file of that model. With a reference folder too, it must be recorded from the files in it.
        levels: names of ``golden.verdict.LEVELS``, all by default. Other levels are listed as NOT RUN.
        device: where L3 runs the candidate. The other levels run on the CPU.
        dtype: ``float64`` or ``float32`` forces the precision of L2 and L4, ``bfloat16`` or ``float16`` that of L3.
        attn: the candidate's attention: ``eager``, ``sdpa`` or ``flash``. Flash has no float64: it adds `L3 flash`.
        progress: called as ``progress(what, done, total)``.
        reached: called with each level as soon as it is judged, in the order in which they are.

    Raises:
        FolderError: a folder cannot be read.
        CannotBuildError, CannotRunError, NoMemoryError: it can, and its model cannot be built or run.
        UnusableReferenceError, NondeterministicReferenceError: the reference cannot serve as one.
        MissingReferenceError: there is nothing to compare with.
        GoldenFileError, GoldenMismatchError: the golden file cannot be read, or was recorded from other files.
        MissingDeviceError: this machine does not have the device or flash attention.
        UnknownLevelError: a name in ``levels``, ``dtype`` or ``attn`` is not known.
    """
    if reference is None and golden is None:
        raise MissingReferenceError(f"{candidate}: nothing to compare with; give a reference folder or a golden file")
    wanted = _known("level", levels if levels is not None else LEVELS, LEVELS)
    _known("dtype", [dtype] if dtype else [], [*WIDE, *LOW_PRECISION])
    _known("attention", [attn] if attn else [], ATTENTION)
    judged, theirs, file = (None if path is None else Path(path) for path in (candidate, reference, golden))
    assert judged is not None
    check_inputs(judged, theirs, file)
    if is_native(judged):
        wanted -= MODEL_LEVELS - {"L2"}  # golden.references has neither kernels nor `generate`
    case = Case(
        candidate=judged,
        reference=theirs,
        golden_path=file,
        golden=None if file is None else read_golden(file),
        wanted=wanted,
        device=device,
        dtype=dtype,
        attn=attn,
        progress=progress,
        lossy_steps=recorded_steps(judged),
        watch=Watch(reached),
    )
    baked = any(step.get("step") == STEP for step in case.lossy_steps)
    with BAKE.said(baked), enough_memory(f"{judged} cannot be judged"):
        return _judge(case)


def _known(what: str, names: Sequence[str] | dict[str, str], known: Sequence[str] | dict[str, str]) -> frozenset[str]:
    for name in names:
        if name not in known:
            raise UnknownLevelError(f"{what} {name!r} is not one of {', '.join(known)}")
    return frozenset(names)


def _judge(case: Case) -> Verdict:
    if case.golden is not None and case.golden_path is not None and case.reference is not None:
        check_same_source(case.golden, case.golden_path, case.reference)
    results = [case.watch.told(level) for level in _file_levels(case)]
    outcome = run_session(case) if case.wanted & MODEL_LEVELS else Outcome()
    results += outcome.levels
    results += [
        LevelResult(name, Status.NOT_RUN, detail="not asked for", required=False) for name in set(LEVELS) - case.wanted
    ]
    results.sort(key=lambda level: level.name)
    return Verdict(
        verdict=conclude(results),
        levels=tuple(results),
        candidate=str(case.candidate),
        reference=str(case.reference or case.golden_path),
        first_divergence=outcome.first_divergence,
        hypothesis=outcome.hypothesis,
        explanations=outcome.explanations,
        lossy_steps=case.lossy_steps,
        versions=installed_versions(),
        asked=tuple(sorted(case.wanted)),
        device=case.device,
        seconds=case.watch.seconds,
        stages=outcome.stages,
        stage_budget=outcome.stage_budget,
    )


def _file_levels(case: Case) -> Iterator[LevelResult]:
    if not case.wanted & {"L0", "L1"}:
        return
    if case.reference is not None:
        yield from judge_structure_and_weights(case.candidate, case.reference, case.wanted, case.progress)
        return
    assert case.golden is not None
    if "L0" in case.wanted:
        yield judge_structure_against(case.candidate, case.golden)
    if "L1" in case.wanted:
        reason = "a golden file has no weights; give the folder of the reference to compare them"
        yield LevelResult("L1", Status.NOT_RUN, None, 0.0, reason, required=False)
