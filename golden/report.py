"""Verdicts and self-tests as lines of plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from converters.counts import counted
from golden.verdict import LevelResult, Status, Verdict

if TYPE_CHECKING:
    from golden.faults.self_testing import SelfTest


def verdict_lines(verdict: Verdict) -> list[str]:
    """The verdict in lines of plain text, the conclusion first."""
    lines = [f"{verdict.line}  {verdict.candidate}"]
    if verdict.reference:
        lines.append(f"  against {verdict.reference}")
    lines += [line for level in verdict.levels for line in _level_lines(level)]
    if verdict.first_divergence:
        lines.append(f"  first divergence: {verdict.first_divergence}")
    if verdict.hypothesis:
        lines.append(f"  hypothesis: {verdict.hypothesis}")
    lines += [f"  lossy step: {_step(step)}" for step in verdict.lossy_steps]
    return lines


def _step(step: Mapping[str, Any]) -> str:
    """A lossy step in a line: its name, its dtype, and the tensor that it changed most."""
    errors = step.get("max_error")
    if not isinstance(errors, Mapping) or not errors:
        return ", ".join(str(value) for value in step.values())
    key = max(errors, key=lambda name: errors[name])
    return f"{step.get('step')} to {step.get('dtype')}, largest error {errors[key]:.3g} in {key}"


def trial_lines(result: SelfTest) -> list[str]:
    """A self-test in lines of plain text: a row per fault or variant, the conclusion last."""
    width = max((len(trial.name) for trial in result.trials), default=0)
    first = max((len(trial.family) for trial in result.trials), default=0)
    lines = [f"{'family':<{first}} {'kind':<8} {'seed':>4} {'what':<{width}} {'measured':>9}  verdict"]
    for trial in result.trials:
        number = "" if trial.number is None else f"{trial.number:.1e}"
        wanted = ("silent", "FALSE ALARM") if trial.kind == "healthy" else ("caught", "MISSED")
        word = wanted[0] if trial.right else wanted[1]
        lines.append(
            f"{trial.family:<{first}} {trial.kind:<8} {trial.seed:>4} {trial.name:<{width}} {number:>9}  {word}"
        )
    faults = sum(trial.kind != "healthy" for trial in result.trials)
    healthy = len(result.trials) - faults
    lines.append(
        f"{'PASS' if result.passed else 'FAIL'}: {faults - len(result.missed)} of {faults} faults caught, "
        f"{counted(len(result.false_alarms), 'false alarm')} in {counted(healthy, 'correct variant')}"
    )
    return lines + [f"not tried, because no hot model is known: {name}" for name in result.untried]


def _level_lines(level: LevelResult) -> list[str]:
    numbers = "" if level.number is None else f"  {level.number:.3g}"
    if level.budget is not None and numbers:
        numbers += f" (budget {level.budget:.3g})"
    lines = [f"  {level.name:<10} {level.title:<10} {level.status}{numbers}"]
    if level.detail:
        lines.append(f"             {level.detail}")
    if level.status is Status.FAIL:
        lines += [f"             {r.name}: rms {r.rms:.3g}, max {r.max:.3g}" for r in level.readings]
    return lines
