"""Lines that fit a width: they are broken between words alone."""

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

LEAST = 30  # columns that the last column of a table needs to stand beside the others


def columns() -> int | None:
    """Columns of the terminal, or those that COLUMNS says; None for a file or a pipe, whose lines are not broken."""
    if sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    said = os.environ.get("COLUMNS", "")
    return int(said) if said.isdigit() and int(said) else None


def broken(text: str, width: int | None, indent: str = "", hang: str = "    ") -> list[str]:
    """A text in lines of whole words; a word that is longer than a line stays whole."""
    if width is None or len(indent) + len(text) <= width:
        return [indent + text]
    wide = max(width, len(hang) + 8)
    wrapper = textwrap.TextWrapper(
        wide, initial_indent=indent, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(text)


def fitted(line: str, width: int | None) -> list[str]:
    """A finished line in lines that fit; one that holds a command to copy stays whole."""
    if width is None or len(line) <= width or "convert " in line:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    return broken(line.lstrip(), width, indent, f"{indent}    ")


def table(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Rows as lines with aligned columns. The last column is broken to fit the width, or stands below the others."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    if width is not None and widths[-1] > width - before < LEAST:
        return [line for row in rows for line in _stacked(row, widths, width)]
    room = None if width is None else width - before
    return [line for row in rows for line in _beside(row, widths, room, " " * before)]


def _beside(row: Sequence[str], widths: Sequence[int], room: int | None, hang: str) -> list[str]:
    first, *more = broken(row[-1], room, hang="") or [""]
    return [(_start(row, widths) + first).rstrip(), *(hang + text for text in more)]


def _stacked(row: Sequence[str], widths: Sequence[int], width: int) -> list[str]:
    first = broken(_start(row, widths).rstrip(), width, hang=" " * 6)
    return [*first, *(broken(row[-1], width, " " * 6, " " * 6) if row[-1] else [])]


def _start(row: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(cell.ljust(size + 2) for cell, size in zip(row[:-1], widths[:-1], strict=True))
