"""A zoo's outcomes in one report: JSON for programs, Markdown and HTML for people."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from cli.reports.markdown import escaped
from cli.zoo.outcome import Outcome
from converters.counts import counted
from converters.version import __version__

HEADS = ("source", "family", "to", "status", "L0", "L1", "L2", "L3", "L4", "output", "push", "error")
STYLE = (
    "body{font-family:sans-serif} table{border-collapse:collapse}"
    " th,td{border:1px solid #bbb;padding:.3em .6em;text-align:left}"
)


def content(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The report as JSON."""
    counts = Counter(found.status for found in outcomes)
    return {"version": __version__, "counts": dict(sorted(counts.items())), "models": [o.to_json() for o in outcomes]}


def write_report(stem: Path, outcomes: Sequence[Outcome]) -> list[Path]:
    """Writes the report beside each other in three forms, each in one step; gives the files."""
    from converters.engine.output_folder import replace_file

    made = {".json": json.dumps(content(outcomes), indent=2, ensure_ascii=False) + "\n", ".md": markdown(outcomes)}
    files = []
    for suffix, text in {**made, ".html": html(outcomes)}.items():
        files.append(stem.with_name(stem.name + suffix))
        replace_file(files[-1], text.encode())
    return files


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many models ended how, in one line."""
    counts = Counter(found.status for found in outcomes)
    told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return f"{counted(len(outcomes), 'model')}: {told}"


def _cells(found: Outcome) -> list[str]:
    levels = {str(level["name"]): _level(level) for level in found.levels}
    status = f"{found.status}, up to date" if found.up_to_date else found.status
    cells: Mapping[str, str] = {**found.to_json(), **levels, "status": status, "push": found.url or found.push}
    return [str(cells.get(head, "")) for head in HEADS]


def _level(level: Mapping[str, Any]) -> str:
    number = level.get("number")
    return f"{level['status']} {number:.3g}" if isinstance(number, int | float) and number else str(level["status"])


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The report as a table of Markdown."""
    lines = [f"# {summary(outcomes)}", "", f"| {' | '.join(HEADS)} |", f"|{' --- |' * len(HEADS)}"]
    for found in outcomes:
        lines.append(f"| {' | '.join(map(escaped, _cells(found)))} |")
    return "\n".join(lines) + "\n"


def html(outcomes: Sequence[Outcome]) -> str:
    """The report as one file of HTML without scripts."""
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}' for cell in _cells(found))}\n" for found in outcomes)
    title = escape(summary(outcomes))
    head = f"<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<title>{title}</title>\n<style>{STYLE}</style>\n"
    table = f"<table>\n<tr>{''.join(f'<th>{name}' for name in HEADS)}\n{rows}</table>\n"
    return f"{head}<h1>{title}</h1>\n{table}</html>\n"
