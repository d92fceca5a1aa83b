"""The part of a document between `<!-- NAME -->` and `<!-- /NAME -->`, which a program writes."""

import re
from pathlib import Path


def replace_marked(document: Path, name: str, text: str) -> None:
    """Puts `text` between the two marks of a document.

    Raises:
        ValueError: a mark is missing.
    """
    opening, closing = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    marked = re.compile(f"{re.escape(opening)}(.*?){re.escape(closing[1:])}", re.DOTALL)
    changed, count = marked.subn(lambda found: f"{opening}{text}{closing}", document.read_text())
    if count != 1:
        raise ValueError(f"{document} has {count} parts between {opening.strip()} and {closing.strip()}, expected 1")
    document.write_text(changed)
