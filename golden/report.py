"""A verdict as plain text, one line per level, without colour or width: the command line draws its own table."""

from __future__ import annotations

from golden.verdict import LevelResult, Status, Verdict


def verdict_lines(verdict: Verdict) -> list[str]:
    """The verdict in lines of plain text, the conclusion first."""
    lines = [f"{verdict.verdict}  {verdict.candidate}"]
    if verdict.reference:
        lines.append(f"  against {verdict.reference}")
    lines += [line for level in verdict.levels for line in _level_lines(level)]
    if verdict.first_divergence:
        lines.append(f"  first divergence: {verdict.first_divergence}")
    if verdict.hypothesis:
        lines.append(f"  hypothesis: {verdict.hypothesis}")
    lines += [f"  lossy step: {step}" for step in verdict.lossy_steps]
    return lines


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
