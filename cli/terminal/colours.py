"""Lines on a terminal in colours, by rich; nothing is said by colour alone."""

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

STYLES = {
    r"\bPASS\b": "bold green",
    r"\bFAIL\b": "bold red",
    r"\bUNVERIFIED\b": "bold yellow",
    r"\bNOT RUN\b": "dim",
    r"^\s*(first divergence|hypothesis):": "bold red",
    r"^\s*note:": "yellow",
    r"^(key|family|lengths) .*$": "bold",
    r" <- ": "dim",
}


def print_lines(lines: Sequence[str]) -> None:
    """Prints lines that fit already, in colours; those that do not fit are broken between words."""
    from rich.console import Console
    from rich.text import Text

    from cli.terminal.layout import fitted

    plain = bool(os.environ.get("NO_COLOR"))  # rich would still print bold and dim
    console = Console(highlight=False, soft_wrap=True, color_system=None if plain else "auto")
    for line in lines:
        for part in fitted(line, console.width):
            console.print(coloured(part, Text(part)))


def coloured(line: str, text: "Text") -> "Text":
    """The text of a line with its styles."""
    for pattern, style in STYLES.items():
        for found in re.finditer(pattern, line):
            text.stylize(style, *found.span())
    return text
