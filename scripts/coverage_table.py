"""Writes which model types of transformers are held into docs/coverage.md.

Usage: coverage_table.py
"""

from pathlib import Path

from marked_text import replace_marked

from converters.coverage import markdown

if __name__ == "__main__":
    replace_marked(Path(__file__).parent.parent / "docs" / "coverage.md", "coverage", markdown())
