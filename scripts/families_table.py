"""Writes what each family can express into docs/families.md, asked of the families themselves.

Usage: families_table.py
"""

from pathlib import Path

from marked_text import replace_marked

from converters.support_matrix import markdown

if __name__ == "__main__":
    replace_marked(Path(__file__).parent.parent / "docs" / "families.md", "families", markdown())
