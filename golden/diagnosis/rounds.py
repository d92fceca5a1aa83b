"""Known mistakes are undone one after the other, and the model is judged again: at most four rounds.

This needs no weights of the reference: what a golden file recorded is enough. With hidden states only mistakes that can
show first at the divergent stage are tried, and no more of the model is run than to there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from golden.diagnosis.bench import Bench
from golden.diagnosis.divergence import Divergence, find_divergence
from golden.diagnosis.hypotheses import config_hypotheses, weight_hypotheses
from golden.diagnosis.hypothesis import Hypothesis
from golden.faults.model_copy import Patient
from golden.models.folders import read_config, stored_elements, tensor_headers, weight_files
from golden.verdict import Explanation
from golden.weights.places import rank
from golden.weights.relations import EPS, WORDS

ROUNDS = 4
WEIGHTS = 10_000_000_000
"""Without hidden states every hypothesis costs a forward pass: so many weights are run in all."""
FEWEST = 8


@dataclass(frozen=True)
class Found:
    """A mistake that was undone, what was left of the error, and the stage of the next one, if there is one."""

    hypothesis: Hypothesis
    place: str
    rms: float
    passes: bool
    rest: Divergence | None


def search(bench: Bench, divergence: Divergence | None) -> list[Found]:
    """Mistakes whose undoing makes the model pass, or mends the first divergent stage; each stays undone."""
    found: list[Found] = []
    patient = bench.patient()
    while patient is not None and len(found) < ROUNDS:
        one = _round(bench, patient, divergence)
        if one is None:
            break
        found.append(one)
        if one.passes:
            break
        divergence, patient = one.rest, bench.patient()
    return found


def _round(bench: Bench, patient: Patient, divergence: Divergence | None) -> Found | None:
    most = max(FEWEST, WEIGHTS // max(1, stored_elements(bench.folder)))
    stage = None if divergence is None else divergence.stage
    tried = 0
    for hypothesis in _fitting(bench, patient, stage):
        tried += divergence is None
        if tried > most:
            return None
        found = _tried(bench, patient, hypothesis, divergence)
        if found is not None:
            return found
    return None


def _fitting(bench: Bench, patient: Patient, stage: str | None) -> Iterator[Hypothesis]:
    """Each known mistake that fits the place; those of the config come after those of all layers."""
    weights = [hypothesis for hypothesis in weight_hypotheses(patient) if hypothesis.fits(stage)]
    settings = [h for h in config_hypotheses(patient, bench.evidence.config) if h.fits(stage)]
    yield from (hypothesis for hypothesis in weights if not hypothesis.layers)
    yield from settings
    seen = set[str]()
    for hypothesis in weights:
        if hypothesis.layers and hypothesis.claim not in seen:
            seen.add(hypothesis.claim)
            yield hypothesis


def _tried(bench: Bench, patient: Patient, hypothesis: Hypothesis, divergence: Divergence | None) -> Found | None:
    """What undoing a mistake brings; it is done again where it brings nothing."""
    before = bench.measure() if hypothesis.computes else (0.0, 0.0)
    limit = _limit(bench, before[0]) if hypothesis.computes else bench.budget.rms
    if not hypothesis.roles:
        return _reconfigured(bench, patient, hypothesis, divergence)
    touched = {key: patient.weights[key].clone() for key in hypothesis.keys(patient)}
    hypothesis.undo(patient)
    found = None
    if divergence is None or divergence.is_gone(bench.runner, limit):
        found = _judged(bench, hypothesis, divergence, limit)
    if found is None:
        for key, values in touched.items():
            patient.weights[key].copy_(values)
    return found


def _reconfigured(
    bench: Bench, patient: Patient, hypothesis: Hypothesis, divergence: Divergence | None
) -> Found | None:
    changed = Patient(patient.weights, read_config(bench.folder), patient.anatomy)
    hypothesis.undo(changed)
    runner = bench.reload(changed.config)
    if runner is None:
        return None
    before, bench.runner = bench.runner, runner
    found = None
    if divergence is None or divergence.is_gone(runner, bench.budget.rms):
        found = _judged(bench, hypothesis, divergence, bench.budget.rms)
    if found is None:
        bench.runner = before
    return found


def _judged(bench: Bench, hypothesis: Hypothesis, divergence: Divergence | None, limit: float) -> Found | None:
    error = bench.measure()
    passes = bench.keeps(error) or (hypothesis.computes and bench.keeps(error, limit))
    if passes:
        passes = _everywhere(bench, limit if hypothesis.computes else None)
    place = divergence.stage if divergence else (hypothesis.stages[0] if hypothesis.stages else "")
    if passes:
        return Found(hypothesis, place, error[0], True, None)
    if divergence is None:
        return None
    rest = find_divergence(bench.runner, bench.evidence, bench.budget, bench.index)
    later = rest is None or rank(rest.stage) > rank(divergence.stage)
    return Found(hypothesis, place, error[0], False, rest) if later and rest is not None else None


def _everywhere(bench: Bench, limit: float | None) -> bool:
    """Whether the other prompts pass, too, of a model that is small enough to ask."""
    if stored_elements(bench.folder) > WEIGHTS // 500:
        return True
    others = (i for i in range(len(bench.evidence.prompts)) if i != bench.index)
    return all(bench.keeps(bench.prompt_error(i), limit) for i in others)


def _limit(bench: Bench, before: float) -> float:
    """The error that the rounding of the stored dtype may leave, far below what the fault brought."""
    return max(bench.budget.rms, min(16 * EPS[stored_dtype(bench)], before / 100))


def stored_dtype(bench: Bench) -> str:
    """The narrowest floating dtype that the candidate's weights are stored in."""
    if bench.sides is not None:
        dtypes = {tensor.dtype for tensor in bench.sides.found.tensors.values()}
    else:
        dtypes = {entry.dtype for path in weight_files(bench.folder) for entry in tensor_headers(path).values()}
    return max((dtype for dtype in dtypes if dtype in EPS), key=lambda dtype: EPS[dtype], default="F32")


def explained(bench: Bench, found: list[Found]) -> list[Explanation]:
    """The mistakes found, as explanations."""
    passes = bool(found) and found[-1].passes
    return [
        Explanation(
            one.hypothesis.claim,
            one.place,
            "function",
            one.hypothesis.undo_words,
            passes,
            found[-1].rms,
            precision_note(stored_dtype(bench)) if one.hypothesis.computes else "",
        )
        for one in found
    ]


def precision_note(dtype: str) -> str:
    """Why a computed undoing leaves an error."""
    name = {"F64": "float64", **WORDS}[dtype]
    return f"the weights were rounded to {name} after the mistake, which no undoing takes back"
