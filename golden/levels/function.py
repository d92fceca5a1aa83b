"""L2, function: the logits of candidate and reference are compared, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass

from golden.evidence.error_meter import ErrorMeter
from golden.evidence.extremes import without_extremes
from golden.evidence.live import Evidence
from golden.evidence.prompts import unreached
from golden.models.running import CHUNK, TOKENS, ModelRunner, run_together
from golden.verdict import LevelResult, Reading, Status
from golden.watching import Progress

NAMED = 5
"""A detail names at most this many keys, then it says how many more there are."""


@dataclass(frozen=True)
class Budget:
    """Largest allowed rms and max, in units of the standard deviation of the reference's logits; None is no limit."""

    rms: float
    max: float | None

    def keeps(self, reading: Reading) -> bool:
        """Whether a reading is within the budget."""
        return reading.rms <= self.rms and (self.max is None or reading.max <= self.max)


FLOAT64 = Budget(rms=1e-10, max=1e-9)
"""Correct conversions have 1e-15 to 1e-13, the smallest planted fault 5.9e-10 (parity facts, sections 5 and 6)."""


def float32_budget(floor: float) -> Budget:
    """The budget in float32, for models too large for float64. ``floor``: the rms between the reference's backends."""
    return Budget(rms=max(1e-5, 4.0 * floor), max=None)


def judge_function(
    candidate: ModelRunner, evidence: Evidence, budget: Budget, progress: Progress | None = None
) -> LevelResult:
    """Run the candidate on every prompt and call its embedding modules on every row."""
    if problems := cannot_run(candidate, evidence):
        return LevelResult("L2", Status.FAIL, None, budget.rms, _first_named(problems))
    tables = [compare_table(candidate, evidence, table) for table in evidence.table_sizes]
    meter = ErrorMeter()
    run_together(evidence.begin(), candidate.begin(prompt.ids for prompt in evidence.prompts))
    for index, prompt in enumerate(evidence.prompts):
        if progress is not None:
            progress(f"function: {prompt.name}", index, len(evidence.prompts))
        try:
            logits = candidate.logits(prompt.ids)
        except (RuntimeError, ValueError, IndexError, TypeError) as broken:
            detail = f"the candidate cannot run the prompt {prompt.name!r}: {type(broken).__name__}: {broken}"
            return LevelResult("L2", Status.FAIL, None, budget.rms, detail)
        meter.add(prompt.name, *without_extremes(*evidence.pair(index, logits)))
    return _result(candidate, evidence, budget, meter, tables)


def _result(
    candidate: ModelRunner, evidence: Evidence, budget: Budget, meter: ErrorMeter, tables: list[Reading]
) -> LevelResult:
    total = meter.total("logits", evidence.std)
    readings = (*meter.readings(evidence.std), *tables)
    number = max(reading.rms for reading in (total, *tables))
    largest = max(reading.max for reading in (total, *tables))
    over = [r for r in (total, *tables) if not budget.keeps(r)]
    measures = {"max": largest, "tokens": float(total.tokens), "std": evidence.std or meter.std}
    if budget.max is not None:
        measures["max_budget"] = budget.max
    details = [_worst(readings, budget)] if over else []
    if evidence.distance is not None:
        measures["distance"] = evidence.distance
        details.append(
            f"compared with the reference after the recorded cast, which changed it by rms {evidence.distance:.3g}"
        )
    if meter.nonfinite:
        why = candidate.loaded.name_nonfinite() or "its weights are finite, but its forward pass overflows"
        details.insert(0, f"{meter.nonfinite} of the candidate's logits are NaN or infinite: {why}")
    unseen = unreached((candidate.model.config, evidence.config), evidence.prompts)
    details += [*unseen, *_notes(candidate, evidence)]
    status = Status.FAIL if over else Status.UNVERIFIED if unseen else Status.PASS
    return LevelResult("L2", status, number, budget.rms, "; ".join(details), True, readings, measures)


def _worst(readings: tuple[Reading, ...], budget: Budget) -> str:
    worst = max(readings, key=lambda reading: reading.rms if math.isfinite(reading.rms) else math.inf)
    text = f"worst in {worst.name!r}: rms {worst.rms:.3g}, max {worst.max:.3g} of the reference's std"
    first = next((i for i, rms in enumerate(worst.quartiles) if rms > budget.rms), None)
    if len(worst.quartiles) > 1 and first:
        text += f", beginning in quarter {first + 1} of the positions"
    return text


def compare_table(candidate: ModelRunner, evidence: Evidence, table: str) -> Reading:
    """Every row of an embedding table that both models have."""
    size = min(evidence.table_sizes[table], int(candidate.tables[table].num_embeddings))
    meter = ErrorMeter()
    for start in range(0, size, CHUNK):
        found, expected = evidence.pair_rows(table, start, candidate.rows(table, start, min(size, start + CHUNK)))
        by_row = without_extremes(found.T, expected.T)  # (width, rows): one extreme row hides no other
        meter.add(table, *without_extremes(by_row[0].T, by_row[1].T))
    return meter.total(f"{table}, all {size} rows")


def cannot_run(candidate: ModelRunner, evidence: Evidence) -> list[str]:
    """Why its logits cannot be compared, a sentence each: tensors or rows of it are missing."""
    return [*candidate.loaded.problems, *_missing_rows(candidate, evidence)]


def _missing_rows(candidate: ModelRunner, evidence: Evidence) -> list[str]:
    problems = []
    for table, size in evidence.table_sizes.items():
        if table not in candidate.tables:
            problems.append(f"the candidate has no {table}, the reference has {size} rows of them")
        elif (have := candidate.tables[table].num_embeddings) < (evidence.used_vocab if table == TOKENS else size):
            problems.append(f"the candidate has {have} rows of {table}, the reference {size}: rows are missing")
    extra = sorted(set(candidate.tables) - set(evidence.table_sizes))
    return problems + [f"the candidate has {table}, the reference has none" for table in extra]


def _notes(candidate: ModelRunner, evidence: Evidence) -> list[str]:
    """What was not compared."""
    notes = []
    found, expected = candidate.vocab, evidence.table_sizes[TOKENS]
    if found != expected:
        sizes = f"{found} rows (candidate) and {expected} rows (reference)"
        notes.append(f"the vocabularies have {sizes}: the first {min(found, expected)} were compared")
    return notes


def _first_named(problems: list[str]) -> str:
    more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
    return "; ".join(problems[:NAMED]) + more
