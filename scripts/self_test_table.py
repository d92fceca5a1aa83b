"""What `convert parity --self-test` prints, as Markdown: its last line, and a row per fault or variant.

Usage: convert parity --self-test --seeds 3 | self_test_table.py [docs/self-test.md]

The table is printed, or written between the marks `self-test` of the document that is given.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from marked_text import replace_marked

KINDS = ("weight", "mapping", "config", "code", "kernel", "healthy")
ROW = re.compile(rf"(\S+) +({'|'.join(KINDS)}) +(\d+) (.+?) +(\S+)  (caught|silent|MISSED|FALSE ALARM)$")
SUMMARY = re.compile(r"(PASS|FAIL): [\d,]+ of [\d,]+ faults caught, [\d,]+ false alarms? in [\d,]+ correct variants?$")


def table(lines: Iterable[str]) -> list[str]:
    """Markdown: faults with the faintest measurement of any family and seed, correct variants with the loudest."""
    rows: dict[tuple[str, str], list[re.Match[str]]] = {}
    for found in filter(None, map(ROW.match, lines)):
        rows.setdefault((found[2], found[4]), []).append(found)
    made = ["| kind | what | families | trials | measured | verdict |", "| --- " * 6 + "|"]
    for (kind, what), trials in sorted(rows.items(), key=lambda row: KINDS.index(row[0][0])):
        numbers = [float(trial[5]) for trial in trials]
        measured = f"<= {max(numbers):.1e}" if kind == "healthy" else f">= {min(numbers):.1e}"
        words = ", ".join(sorted({trial[6] for trial in trials}))
        cells = [kind, what, str(len({trial[1] for trial in trials})), str(len(trials)), measured, words]
        made.append(f"| {' | '.join(cells)} |")
    return made


def section(lines: list[str]) -> str:
    """The last line of the self-test and the table, as they stand in the document."""
    (summary,) = filter(SUMMARY.match, lines)
    return "\n".join([summary, "", *table(lines)])


if __name__ == "__main__":
    made = section([line.rstrip("\n") for line in sys.stdin])
    if len(sys.argv) > 1:
        replace_marked(Path(sys.argv[1]), "self-test", made)
    else:
        print(made)
