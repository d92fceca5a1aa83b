"""The verdicts of many models as a static page: a table with filters by family and status, and a report of each.

No script runs: the filters are radio buttons, and the style sheet hides the rows that do not fit the chosen ones.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.reports.facts import MARKS, STATUSES, clean, places, sentence, status_of
from cli.reports.forms import write_text
from cli.reports.html import badge, document, text
from cli.reports.page import page

FILTERS = """
.filter { position: absolute; opacity: 0; }
.filters { display: flex; flex-wrap: wrap; gap: .4rem; align-items: baseline; margin: .6rem 0; }
.filters b { font-weight: 600; min-width: 4rem; }
.filters label { border: 1px solid var(--line); border-radius: 1rem; padding: .1rem .75rem; cursor: pointer; }
"""
CHOSEN = "{ background: var(--ink); color: var(--paper); border-color: var(--ink); }"
FOCUSED = "{ outline: 2px solid var(--path); outline-offset: 2px; }"
COLOURS = {"PASS": "#12703f", "FAIL": "#b3261e", "UNVERIFIED": "#8a5a00", "NOT RUN": "#59636e"}


def zoo_page(verdicts: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Writes `index.html`, a page for each verdict in `reports/` and a badge for each in `badges/`.

    Args:
        verdicts: the JSON of verdicts. Besides its own fields each may have `name`, what the model is called (else
            its candidate), `family` and `to`.
        folder: where to write; it is made if it is missing. Files of the same names are replaced.

    Raises:
        TargetRefused: a file cannot be written.
    """
    from converters.engine.output_folder import make_folders
    from converters.errors import TargetRefused

    files = file_names(verdicts)
    try:
        for place in (folder / "reports", folder / "badges"):
            make_folders(place)
    except OSError as failure:
        raise TargetRefused(f"{folder}: not a folder that can be written to ({failure})") from failure
    for verdict, file in zip(verdicts, files, strict=True):
        write_text(folder / "reports" / f"{file}.html", page(verdict))
        write_text(folder / "badges" / f"{file}.svg", badge_file(status_of(verdict, "verdict")))
    families = sorted({_family(verdict) for verdict in verdicts})
    body = _body(verdicts, files, families)
    write_text(folder / "index.html", document("Converted models", body, _rules(len(families))))


def file_names(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """A file name for each verdict: letters, digits and `-._` of its name; a number where two would be the same."""
    found, taken = [], Counter[str]()
    for verdict in verdicts:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", _name(verdict)).strip("-.")[:80] or "model"
        name = plain
        while taken[name.lower()]:
            taken[plain.lower()] += 1
            name = f"{plain}-{taken[plain.lower()]}"
        taken[name.lower()] += 1
        found.append(name)
    return found


def badge_file(status: str) -> str:
    """A badge as an SVG of its own, to be shown in a README."""
    width = 66 + 8 * len(status) + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="parity: {status}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" font-size="11" fill="#ffffff">'
        f'<rect width="{width}" height="20" rx="3" fill="#444c56"/>'
        f'<path d="M50 0h{width - 53}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{width - 53}z" fill="{COLOURS[status]}"/>'
        f'<text x="8" y="14">parity</text><text x="58" y="14">{MARKS[status]} {status}</text></svg>\n'
    )


def _name(verdict: Mapping[str, Any]) -> str:
    return clean(verdict.get("name") or verdict.get("candidate") or "model")


def _family(verdict: Mapping[str, Any]) -> str:
    return clean(verdict.get("family") or "unknown")


def _body(verdicts: Sequence[Mapping[str, Any]], files: Sequence[str], families: Sequence[str]) -> Iterator[str]:
    found = Counter(status_of(verdict, "verdict") for verdict in verdicts)
    statuses = [status for status in STATUSES if found[status]]
    yield "<h1>Converted models</h1>"
    yield f"<p>{', '.join(f'{found[status]} {text(status)}' for status in statuses) or 'No model yet.'}</p>"
    yield from _filters("family", "f", ["all", *families])
    yield from _filters("status", "s", ["all", *STATUSES], shown=["all", *statuses])
    yield '<div class="scroll list"><table><thead><tr><th>model</th><th>family</th><th class="wide">to</th>'
    yield '<th>status</th><th>what was found</th><th class="wide">badge</th></tr></thead><tbody>'
    for verdict, file in zip(verdicts, files, strict=True):
        yield _row(verdict, file, families.index(_family(verdict)))
    yield "</tbody></table></div>"


def _filters(name: str, letter: str, words: Sequence[str], shown: Sequence[str] | None = None) -> Iterator[str]:
    """Radio buttons, which must stand before the table, and their labels."""
    offered = [k for k, word in enumerate(words) if shown is None or word in shown]
    for k in offered:
        first = " checked" if not k else ""
        yield f'<input class="filter" type="radio" name="{name}" id="{letter}{k}" aria-label="{text(words[k])}"{first}>'
    labels = "".join(f'<label for="{letter}{k}">{text(words[k])}</label>' for k in offered)
    yield f'<p class="filters"><b>{name}</b>{labels}</p>'


def _rules(families: int) -> str:
    """The rules that mark the chosen filters and hide the rows that do not fit them."""
    rules = [FILTERS]
    for letter, count in (("f", families + 1), ("s", len(STATUSES) + 1)):
        for k in range(count):
            chosen, label = f"#{letter}{k}:checked", f'.filters label[for="{letter}{k}"]'
            rules.append(f"{chosen} ~ {label} {CHOSEN}")
            rules.append(f"#{letter}{k}:focus-visible ~ {label} {FOCUSED}")
            rules += [f"{chosen} ~ .list tr.row:not(.{letter}{k}) {{ display: none; }}"] if k else []
    return "\n".join(rules)


def _row(verdict: Mapping[str, Any], file: str, family: int) -> str:
    status = status_of(verdict, "verdict")
    classes = f"row f{family + 1} s{STATUSES.index(status) + 1}"
    told = [sentence(verdict), *(f"{name}: {value}" for name, value in places(verdict))]
    return (
        f'<tr class="{classes}"><td><a href="reports/{file}.html">{text(_name(verdict))}</a></td>'
        f"<td>{text(_family(verdict))}</td>"
        f'<td class="wide">{text(verdict.get("to") or "")}</td><td>{badge(status)}</td>'
        f'<td class="said">{text(" ".join(told))}</td>'
        f'<td class="wide"><img src="badges/{file}.svg" alt="parity: {status}" height="20"></td></tr>'
    )
