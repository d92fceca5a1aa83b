"""A verdict as a file: JSON for programs, Markdown and HTML for people, JUnit XML for continuous integration."""

import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from golden import LevelResult, Verdict


def check_report(path: Path | None) -> None:
    """Refuses a report that cannot be written, before anything is judged.

    Raises:
        UsageError: an unknown suffix, or no folder to write into.
    """
    from converters.errors import UsageError

    if path is None:
        return
    if path.suffix not in FORMS:
        raise UsageError(f"--report is {path.name!r}, expected a name that ends in {', '.join(FORMS)}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--report: there is no folder {path.absolute().parent}")


def write_report(path: Path, verdict: "Verdict") -> None:
    """Writes a verdict in the form that the file's suffix names."""
    from converters.engine.output_folder import replace_file

    replace_file(path, FORMS[path.suffix](verdict).encode())


def _json(verdict: "Verdict") -> str:
    return json.dumps(verdict.to_json(), indent=2, ensure_ascii=False) + "\n"


def _number(level: "LevelResult") -> str:
    return "" if level.number is None else f"{level.number:.3g}"


def _markdown(verdict: "Verdict") -> str:
    lines = [f"# {verdict.verdict}: {verdict.candidate}", "", f"Against {verdict.reference}.", ""]
    lines += ["| level | what | status | number | budget | detail |", "| --- | --- | --- | --- | --- | --- |"]
    for level in verdict.levels:
        budget = "" if level.budget is None else f"{level.budget:.3g}"
        detail = level.detail.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {level.name} | {level.title} | {level.status} | {_number(level)} | {budget} | {detail} |")
    for name, text in (("First divergence", verdict.first_divergence), ("Hypothesis", verdict.hypothesis)):
        lines += ["", f"{name}: {text}"] if text else []
    return "\n".join(lines) + "\n"


def _html(verdict: "Verdict") -> str:
    rows = "".join(
        f"<tr><td>{level.name}</td><td>{escape(level.title)}</td><td>{level.status}</td><td>{_number(level)}</td>"
        f"<td>{escape(level.detail)}</td></tr>\n"
        for level in verdict.levels
    )
    head = f"<h1>{verdict.verdict}</h1>\n<p>{escape(verdict.candidate)} against {escape(verdict.reference)}</p>\n"
    table = f"<table>\n<tr><th>level<th>what<th>status<th>number<th>detail</tr>\n{rows}</table>\n"
    return f"<!doctype html>\n<meta charset=utf-8>\n<title>{verdict.verdict}</title>\n{head}{table}"


def _junit(verdict: "Verdict") -> str:
    cases = []
    for level in verdict.levels:
        told = quoteattr(level.detail or str(level.status))
        inside = {"PASS": "", "FAIL": f"<failure message={told}/>"}.get(str(level.status), f"<skipped message={told}/>")
        cases.append(f'  <testcase classname="parity" name={quoteattr(level.name)}>{inside}</testcase>\n')
    failed = sum(str(level.status) == "FAIL" for level in verdict.levels)
    skipped = sum(str(level.status) not in ("PASS", "FAIL") for level in verdict.levels)
    name = quoteattr(verdict.candidate)
    counts = f'tests="{len(cases)}" failures="{failed}" skipped="{skipped}"'
    return f'<?xml version="1.0"?>\n<testsuite name={name} {counts}>\n{"".join(cases)}</testsuite>\n'


FORMS: dict[str, Callable[["Verdict"], str]] = {".json": _json, ".md": _markdown, ".xml": _junit, ".html": _html}
