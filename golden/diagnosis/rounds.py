"""Known mistakes are undone one after the other, and the model is judged again: at most four rounds.

This needs no weights of the reference: what a golden file recorded is enough. With hidden states only mistakes that can
show first at the divergent stage are tried, and no more of the model is run than to there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from golden.diagnosis.divergence import Divergence
from golden.diagnosis.experiment import Experiment
from golden.diagnosis.hypotheses import config_hypotheses, weight_hypotheses
from golden.diagnosis.hypothesis import Hypothesis
from golden.faults.model_copy import Patient
from golden.models.folders import stored_elements, tensor_headers, weight_files
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


def search(experiment: Experiment, divergence: Divergence | None) -> list[Found]:
    """Mistakes whose undoing makes the model pass, or the first divergent stage right; each stays undone."""
    found: list[Found] = []
    patient = experiment.model_copy()
    while patient is not None and len(found) < ROUNDS:
        one = _round(experiment, patient, divergence, [before.hypothesis for before in found])
        if one is None:
            break
        found.append(one)
        if one.passes:
            break
        divergence, patient = one.rest, experiment.model_copy()
    return found


def _round(
    experiment: Experiment, patient: Patient, divergence: Divergence | None, undone: Sequence[Hypothesis]
) -> Found | None:
    most = max(FEWEST, WEIGHTS // max(1, stored_elements(experiment.folder)))
    stage = None if divergence is None else divergence.stage
    tried = 0
    for hypothesis in _fitting(experiment, patient, stage):
        tried += divergence is None
        if tried > most:
            return None
        if hypothesis.roles:
            found = _tried(experiment, patient, hypothesis, divergence)
        else:
            found = _reconfigured(experiment, patient, hypothesis, divergence, undone)
        if found is not None:
            return found
    return None


def _fitting(experiment: Experiment, patient: Patient, stage: str | None) -> Iterator[Hypothesis]:
    """Each known mistake that fits the place; those of the config come after those of all layers."""
    weights = [hypothesis for hypothesis in weight_hypotheses(patient) if hypothesis.fits(stage)]
    settings = [h for h in config_hypotheses(patient, experiment.evidence.config) if h.fits(stage)]
    yield from (hypothesis for hypothesis in weights if not hypothesis.layers)
    yield from settings
    seen = set[str]()
    for hypothesis in weights:
        if hypothesis.layers and hypothesis.claim not in seen:
            seen.add(hypothesis.claim)
            yield hypothesis


def _tried(
    experiment: Experiment, patient: Patient, hypothesis: Hypothesis, divergence: Divergence | None
) -> Found | None:
    """What undoing a mistake brings; where it brings nothing, the weights are as before."""
    before = experiment.measure() if hypothesis.computes else (0.0, 0.0)
    limit = _limit(experiment, before[0]) if hypothesis.computes else experiment.budget.rms
    touched = {key: patient.weights[key].clone() for key in hypothesis.keys(patient)}
    hypothesis.undo(patient)
    found = None
    if divergence is None or divergence.is_gone(experiment.runner, limit):
        found = _judged(experiment, hypothesis, divergence, limit)
    if found is None:
        for key, values in touched.items():
            patient.weights[key].copy_(values)
    return found


def _reconfigured(
    experiment: Experiment,
    patient: Patient,
    hypothesis: Hypothesis,
    divergence: Divergence | None,
    undone: Sequence[Hypothesis],
) -> Found | None:
    """The same for a mistake of the config. The model is read anew, so mistakes of its weights are undone once more."""
    changed = Patient(patient.weights, copy.deepcopy(patient.config), patient.anatomy)
    hypothesis.undo(changed)
    runner = experiment.reload(changed.config)
    if runner is None:
        return None
    before = experiment.runner, experiment.config
    experiment.runner, experiment.config = runner, changed.config
    found = None
    if (fresh := experiment.model_copy()) is not None:
        for earlier in undone:
            if earlier.roles:
                earlier.undo(fresh)
    if divergence is None or divergence.is_gone(runner, experiment.budget.rms):
        found = _judged(experiment, hypothesis, divergence, experiment.budget.rms)
    if found is None:
        experiment.runner, experiment.config = before
    return found


def _judged(
    experiment: Experiment, hypothesis: Hypothesis, divergence: Divergence | None, limit: float
) -> Found | None:
    error = experiment.measure()
    passes = experiment.keeps(error) or (hypothesis.computes and experiment.keeps(error, limit))
    if passes:
        passes = _everywhere(experiment, limit if hypothesis.computes else None)
    place = divergence.stage if divergence else (hypothesis.stages[0] if hypothesis.stages else "")
    if passes:
        return Found(hypothesis, place, error[0], True, None)
    if divergence is None:
        return None
    rest = experiment.divergence()
    later = rest is None or rank(rest.stage) > rank(divergence.stage)
    return Found(hypothesis, place, error[0], False, rest) if later and rest is not None else None


def _everywhere(experiment: Experiment, limit: float | None) -> bool:
    """Whether the other prompts pass, too, of a model that is small enough to ask."""
    if stored_elements(experiment.folder) > WEIGHTS // 500:
        return True
    others = (i for i in range(len(experiment.evidence.prompts)) if i != experiment.index)
    return all(experiment.keeps(experiment.prompt_error(i), limit) for i in others)


def _limit(experiment: Experiment, before: float) -> float:
    """The error that the rounding of the stored dtype may leave, far below what the fault brought."""
    return max(experiment.budget.rms, min(16 * EPS[stored_dtype(experiment)], before / 100))


def stored_dtype(experiment: Experiment) -> str:
    """The narrowest floating dtype that the candidate's weights are stored in."""
    if experiment.sides is not None:
        dtypes = {tensor.dtype for tensor in experiment.sides.found.tensors.values()}
    else:
        dtypes = {entry.dtype for path in weight_files(experiment.folder) for entry in tensor_headers(path).values()}
    return max((dtype for dtype in dtypes if dtype in EPS), key=lambda dtype: EPS[dtype], default="F32")


def explained(experiment: Experiment, found: list[Found]) -> list[Explanation]:
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
            precision_note(stored_dtype(experiment)) if one.hypothesis.computes else "",
        )
        for one in found
    ]


def precision_note(dtype: str) -> str:
    """Why a computed undoing leaves an error."""
    name = {"F64": "float64", **WORDS}[dtype]
    return f"the weights were rounded to {name} after the mistake, which no undoing takes back"
