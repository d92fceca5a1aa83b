"""A conversion in words and as JSON, and the command that judges it later."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from cli.console import in_words
from cli.terminal.layout import columns
from converters.counts import counted

if TYPE_CHECKING:
    from converters import ConversionReport
    from golden import Verdict

MOST_NAMED = 8  # tensors with values that are not finite


def source_name(source: Path) -> str:
    """What a source is called: a folder of the Hub's cache, which may be gone tomorrow, by its repo."""
    from converters.checkpoint.cache_folders import snapshot_of

    return str(snapshot_of(source) or source)


def judge_words(report: "ConversionReport", source: str) -> str:
    """The command that judges an output later."""
    from converters.checkpoint.users_word import HEADS, SHARDS, VALUES, flag_of

    word = f" --n-head {HEADS.get()}" if HEADS.get() is not None else ""
    word += f" {flag_of(said)}" if (said := VALUES.get()) is not None else ""
    word += f" --qkv-shards {SHARDS.get()}" if SHARDS.get() is not None else ""
    return f"convert parity {quote(str(report.output))} --reference {quote(source)}{word}"


def _nonfinite_lines(counts: Mapping[str, int]) -> list[str]:
    found = [(key, counted(n, "value"), "is" if n == 1 else "are") for key, n in counts.items()]
    lines = [f"  note: {key}: {values} {be} NaN or infinite, copied unchanged" for key, values, be in found]
    rest = len(lines) - MOST_NAMED
    more = f"  note: {counted(rest, 'more tensor')} with such values; --json lists all"
    return lines if rest <= 0 else [*lines[:MOST_NAMED], more]


def as_content(report: "ConversionReport") -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(report).items()}


def as_lines(report: "ConversionReport", verdict: "Verdict | str") -> list[str]:
    source = source_name(report.source)
    if report.up_to_date:
        first = f"{report.output} is up to date"
    else:
        first = f"{report.family} -> {report.to}: {counted(report.tensors, 'tensor')}, {in_words(report.nbytes)}"
    lines = [first, f"  from {source}", f"  to   {report.output}", *(f"  note: {n}" for n in report.notes)]
    lines += _nonfinite_lines(report.nonfinite)
    if isinstance(verdict, str):
        judge = f" (judge it: {judge_words(report, source)})"
        return [*lines, f"verdict: {verdict}{'' if verdict == 'PASS' else judge}"]
    from golden import verdict_lines

    return lines + verdict_lines(verdict, columns())
