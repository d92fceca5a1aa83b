"""A verdict in Markdown, for a pull request, a job summary or a model card."""

from collections.abc import Iterator

from cli.reports.facts import (
    MARKS,
    Facts,
    about,
    clean,
    levels_of,
    measured,
    number,
    places,
    sentence,
    status_of,
    told,
)

SPECIAL = frozenset("\\`*_{}[]#|~!$")


def markdown(verdict: Facts) -> str:
    """The verdict, its levels as a table, what explains a failure, and what it rests on."""
    status = status_of(verdict, "verdict")
    lines = [f"# {MARKS[status]} {status}: {escaped(verdict.get('candidate') or '')}", "", escaped(sentence(verdict))]
    for name, text in places(verdict):
        lines += ["", f"**{name}:** {escaped(text)}"]
    lines += ["", "| level | what | status | measured | number | budget | seconds |", "|" + " --- |" * 7]
    lines += [_row(level) for level in levels_of(verdict)]
    lines += ["", *_details(verdict), "", "<details><summary>What this rests on</summary>", ""]
    lines += [f"- {name}: {escaped(text)}" for name, text in about(verdict)]
    return "\n".join([*lines, "", "</details>", ""])


def escaped(text: object) -> str:
    """Text without a character that Markdown or HTML would read as a mark."""
    plain = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{character}" if character in SPECIAL else character for character in plain)


def _row(level: Facts) -> str:
    status = status_of(level)
    cells = [level.get("name"), level.get("title"), f"{MARKS[status]} {status}", measured(level)]
    cells += [number(level.get(name)) for name in ("number", "budget", "seconds")]
    return f"| {' | '.join(escaped(cell or '') for cell in cells)} |"


def _details(verdict: Facts) -> Iterator[str]:
    for level in levels_of(verdict):
        for text in told(level):
            yield f"- {escaped(level.get('name'))}: {escaped(text)}"
