"""Pieces that all pages are made of. What comes from a verdict is escaped here and nowhere else."""

from collections.abc import Iterable
from html import escape

from cli.reports.facts import MARKS, clean
from cli.reports.style import STYLE


def text(value: object) -> str:
    """A value as text of a page; also fit for an attribute in quotes."""
    return escape(clean(value), quote=True)


def document(title: object, body: Iterable[str], style: str = "") -> str:
    """A page in one file: no script, no font, no picture and no address of another."""
    head = '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">'
    start = f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n<title>{text(title)}</title>'
    content = "\n".join(body)
    return f"{start}\n<style>{STYLE}{style}</style>\n</head>\n<body>\n{content}\n</body>\n</html>\n"


def badge(status: str) -> str:
    """A status: its sign and its word, in its colour."""
    return f'<span class="status {kind(status)}"><i aria-hidden="true">{MARKS[status]}</i>{text(status)}</span>'


def kind(status: str) -> str:
    """The class of a status in the style sheet."""
    return status.split()[0]


def pairs(values: Iterable[tuple[str, str]]) -> str:
    """Names and values as a list."""
    return f"<dl>{''.join(f'<dt>{text(name)}</dt><dd>{text(value)}</dd>' for name, value in values)}</dl>"
