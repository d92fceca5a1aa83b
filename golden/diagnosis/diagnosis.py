"""Diagnosis after a failed L2: where the two models first differ, and what is wrong there and later.

First the files, where the reference's are at hand: what differs is told by layer, part and rows. Then config.json.
Then known mistakes are tried. That something makes the model pass is said only after it ran with that undone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from converters.errors import ConversionError
from golden.diagnosis.config_causes import FieldCause, corrected, expected_config, field_causes
from golden.diagnosis.divergence import Divergence
from golden.diagnosis.experiment import Experiment
from golden.diagnosis.rounds import explained, precision_note, search
from golden.diagnosis.words import in_a_sentence
from golden.evidence.live import Evidence
from golden.levels.function import Budget
from golden.models.folders import read_config
from golden.models.running import TOKENS, ModelRunner
from golden.verdict import Explanation
from golden.weights.causes import Cause, WeightReport, report_weights
from golden.weights.facts import REFERENCE, listed
from golden.weights.places import rank
from golden.weights.relations import EPS
from golden.weights.sides import Sides, read_sides

NO_STATES = "not known: the golden file holds no hidden states; record it with --hidden to be told the layer"
BROKEN = (ConversionError, OSError, LookupError, ValueError, TypeError, ArithmeticError, AttributeError)
"""What files that make no sense raise, such as one that ends early: then the other ways to explain are left."""
NOT_RUN = "the files say so; the model was not run without it"


@dataclass(frozen=True)
class FailedCandidate:
    """A failed candidate: its folder, its model, and the folder of the reference, if that is at hand.

    ``runs``: whether it has logits that can be compared.
    """

    folder: Path
    runner: ModelRunner
    reference: Path | None
    runs: bool = True


@dataclass(frozen=True)
class Diagnosis:
    """Where the candidate parts from the reference, and what is wrong, in the order of the forward pass."""

    first_divergence: str | None = None
    explanations: tuple[Explanation, ...] = ()

    @property
    def hypothesis(self) -> str | None:
        """All that is explained, in a sentence; None where nothing is."""
        return in_a_sentence(self.explanations)


def diagnose(failed: FailedCandidate, evidence: Evidence, budget: Budget, scratch: Path) -> Diagnosis:
    """Say where and why a candidate fails. Raises nothing for a candidate that is broken in another way.

    Args:
        scratch: an empty folder for changed configs.
    """
    sides = None if failed.reference is None else read_sides(failed.folder, failed.reference)
    report = _report(sides)
    experiment = Experiment(failed.folder, failed.runner, evidence, budget, scratch, sides)
    if not failed.runs:
        where = None if report.place is None else f"{report.place}: by the files; the model was not run"
        return Diagnosis(where, tuple(_in_order([*map(_unrun, report.causes), *_unexplained(report)])))
    experiment.find_failing_inputs()
    divergence = experiment.divergence()
    where = _where(experiment, divergence, report)
    found = _explain(experiment, divergence, report) if experiment.has_failing_inputs else [*map(_unrun, report.causes)]
    return Diagnosis(where, tuple(_in_order([*found, *_unexplained(report)])))


def _report(sides: Sides | None) -> WeightReport:
    try:
        return WeightReport() if sides is None else report_weights(sides)
    except BROKEN:
        return WeightReport()


def _where(experiment: Experiment, divergence: Divergence | None, report: WeightReport) -> str | None:
    """The place in a sentence: by the hidden states, else by the tables, else by the weights."""
    if divergence is not None and (report.place is None or rank(divergence.stage) <= rank(report.place)):
        return str(divergence)
    for table in experiment.tables:
        reading = experiment.table_reading(table)
        if divergence is None or rank(table) < rank(divergence.stage):
            stage = "embeddings" if table == TOKENS else "positions"
            return f"{stage}: {reading.name}: rms {reading.rms:.3g} of their std"
    if divergence is not None:
        layer, _, stage = divergence.stage.partition(", ")
        inside = stage == "output" and report.place is not None and report.place.startswith(f"{layer},")
        return f"{report.place}: by the weights; {divergence}" if inside else str(divergence)
    if report.place is not None:
        return f"{report.place}: by the weights; no prompt that was compared stage by stage shows it"
    known = any(experiment.evidence.stages(index) for index in range(len(experiment.evidence.prompts)))
    return None if known or experiment.sides is not None else NO_STATES


def _explain(experiment: Experiment, divergence: Divergence | None, report: WeightReport) -> list[Explanation]:
    weights = [cause for cause in report.causes if cause.edits]
    lacking = [_unrun(cause) for cause in report.causes if not cause.edits]
    for cause in weights:
        experiment.apply(cause.edits)
    error = experiment.measure() if weights else None
    passes = error is not None and experiment.patched and experiment.keeps(error)
    rms = error[0] if error is not None and experiment.patched else None
    found = [_of_weights(cause, passes, rms) for cause in weights]
    if passes:
        return [*lacking, *_with_precision(experiment, weights, found)]
    fields, rms = _fields(experiment)
    depth = _depth(experiment)
    if fields:
        every = [_of_weights(cause, experiment.patched, rms) for cause in weights]
        filled = experiment.filled
        tied = any(field.path == "tie_word_embeddings" for field in fields)  # explains a head too many or too few
        return [*([] if tied else lacking), *every, *(_of_field(field, rms, filled) for field in fields)]
    if report.unexplained or lacking or depth:
        return [*lacking, *depth, *found]
    rest = experiment.divergence() if weights else divergence
    searched = explained(experiment, search(experiment, rest))
    if weights and searched and searched[-1].proved:
        found = [_of_weights(cause, True, searched[-1].rms) for cause in weights]
    return [*found, *searched]


def _of_weights(cause: Cause, passes: bool, rms: float | None) -> Explanation:
    return Explanation(cause.claim, cause.place, "weights", cause.undo, passes, rms)


def _of_field(field: FieldCause, rms: float, filled: tuple[str, ...]) -> Explanation:
    value = field.undo + (f", with {listed(filled)} of the reference," if filled else "")
    return Explanation(field.claim, field.place, "config", value, True, rms)


def _unrun(cause: Cause) -> Explanation:
    kind = "weights" if cause.edits else "missing"
    return Explanation(cause.claim, cause.place, kind, cause.undo, note=NOT_RUN if cause.edits else "")


def _with_precision(experiment: Experiment, weights: list[Cause], found: list[Explanation]) -> list[Explanation]:
    """Undoings that compute are run as such: they leave the rounding of the stored dtype, and the answer says so."""
    computing = [cause for cause in weights if cause.computed]
    if not computing:
        return found
    for cause in computing:
        experiment.apply(cause.computed)
    dtypes = {
        experiment.sides.found.tensors[e.part.key].dtype for c in computing for e in c.computed if experiment.sides
    }
    dtype = max(dtypes, key=lambda name: EPS[name], default="F32")
    error = experiment.measure()
    if experiment.keeps(error):
        return [replace(one, rms=error[0]) for one in found]
    close = experiment.keeps(error, 64 * EPS[dtype])
    rest = "with the values of the reference it passes" if close else "only the values of the reference make it pass"
    note, undo = f"{precision_note(dtype)}; {rest}", None if close else REFERENCE
    return [
        replace(one, undo=undo or one.undo, rms=error[0] if close else one.rms, note=note) if cause.computed else one
        for one, cause in zip(found, weights, strict=True)
    ]


def _fields(experiment: Experiment) -> tuple[list[FieldCause], float]:
    """The fewest fields of config.json whose right values make the model pass, and the error then."""
    config = read_config(experiment.folder)
    expected = experiment.sides.config if experiment.sides else expected_config(config, experiment.evidence.config)
    if expected is None:
        return [], 0.0
    needed = field_causes(config, expected, experiment.anatomy)
    if not needed or _passing(experiment, needed) is None:
        return [], 0.0
    if len(needed) > 1:
        alone = next((cause for cause in needed if _passing(experiment, [cause]) is not None), None)
        needed = [alone] if alone else needed
    for cause in list(needed) if len(needed) > 1 else ():
        rest = [other for other in needed if other is not cause]
        needed = rest if _passing(experiment, rest) is not None else needed
    rms = _passing(experiment, needed)
    return needed, 0.0 if rms is None else rms


def _depth(experiment: Experiment) -> list[Explanation]:
    """Another number of layers, where only a golden file tells it: the files of a reference tell more."""
    config = read_config(experiment.folder)
    expected = expected_config(config, experiment.evidence.config) if experiment.sides is None else None
    for name in ("n_layer", "num_hidden_layers"):
        found, right = config.get(name), (expected or {}).get(name)
        if type(found) is int and type(right) is int and found != right:
            claim = f"the candidate has {found} layers, the reference {right}"
            return [Explanation(claim, f"layer {min(found, right)}", "missing")]
    return []


def _passing(experiment: Experiment, causes: list[FieldCause]) -> float | None:
    """The error with these fields corrected, if the model passes then."""
    runner = experiment.reload(corrected(read_config(experiment.folder), causes))
    if runner is None:
        return None
    before, experiment.runner = experiment.runner, runner
    try:
        error = experiment.measure()
    finally:
        experiment.runner = before
    return error[0] if experiment.keeps(error) else None


def _unexplained(report: WeightReport) -> Iterator[Explanation]:
    for place, claim in report.unexplained:
        yield Explanation(claim, place, "unexplained")


def _in_order(found: list[Explanation]) -> list[Explanation]:
    return sorted(found, key=lambda one: rank(one.place))
