"""Verdicts and self-tests as lines of plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from converters.counts import counted
from golden.verdict import LevelResult, Status, Verdict
from golden.wording import besides, faults, headline, summary

if TYPE_CHECKING:
    from golden.faults.self_testing import SelfTest

HANG = 6
"""Columns before the details of a level."""
TEXT = 35
"""Columns before the words of a level."""


def verdict_lines(verdict: Verdict, width: int | None = None, *, every: bool = False) -> list[str]:
    """The verdict in lines of plain text: the conclusion first, then what explains it, then the levels.

    Args:
        width: columns to break lines at, between words; None does not break them.
        every: also the readings of levels that passed.
    """
    lines = [f"{verdict.line}  {verdict.candidate}"]
    if verdict.reference:
        lines.append(f"  against {verdict.reference}")
    told = [summary([level.to_json() for level in verdict.levels])]
    if verdict.first_divergence:
        told.append(f"first divergence: {verdict.first_divergence}")
    if verdict.hypothesis:
        told.append(f"hypothesis: {verdict.hypothesis}")
    told += [f"fault {k}: {text}" for k, text in enumerate(faults(verdict.to_json()), 1)]
    told += [f"lossy step: {_step(step)}" for step in verdict.lossy_steps]
    lines += [line for text in told for line in _broken(text, "  ", "    ", width)]
    return lines + [line for level in verdict.levels for line in _level_lines(level, width, every)]


def level_line(level: LevelResult) -> str:
    """A level in one line: its name, what it looks at, its status and what it measured, or why it did not."""
    return f"{level.name:<8}  {level.title:<9}  {level.status!s:<10}  {headline(level.to_json())}".rstrip()


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
        f"{'PASS' if result.passed else 'FAIL'}: {faults - len(result.missed):,} of {faults:,} faults caught, "
        f"{counted(len(result.false_alarms), 'false alarm')} in {counted(healthy, 'correct variant')}"
    )
    lines += [f"not tried, because no hot model is known: {name}" for name in result.untried]
    return lines + [f"not tried: {sentence}" for sentence in result.lacking]


def _level_lines(level: LevelResult, width: int | None, every: bool) -> list[str]:
    found = besides(level.to_json())
    if every or level.status is Status.FAIL:
        found += [f"{r.name}: rms {r.rms:.3g}, max {r.max:.3g}" for r in level.readings]
    hang = " " * HANG
    lines = _broken(level_line(level), "  ", " " * TEXT, width)
    return lines + [line for text in found for line in _broken(text, hang, f"{hang}  ", width)]


def _broken(text: str, first: str, rest: str, width: int | None) -> list[str]:
    """A text in lines of whole words; a word that is longer than a line stays whole."""
    if width is None or len(first) + len(text) <= width:
        return [first + text]
    return textwrap.wrap(
        text, max(width, len(rest) + 24), initial_indent=first, subsequent_indent=rest,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
