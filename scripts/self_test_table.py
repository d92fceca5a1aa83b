"""What `convert parity --self-test` prints, as the table of the README: a row per fault or variant over all families.

Usage: convert parity --self-test --seeds 20 | self_test_table.py
"""

import re
import sys
from collections.abc import Iterable

KINDS = ("weight", "mapping", "config", "kernel", "healthy")
ROW = re.compile(rf"(\w+) +({'|'.join(KINDS)}) +(\d+) (.+?) +(\S+)  (caught|silent|MISSED|FALSE ALARM)$")


def table(lines: Iterable[str]) -> list[str]:
    """Markdown: faults with the faintest measurement of any family and seed, sound variants with the loudest."""
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


if __name__ == "__main__":
    print("\n".join(table(line.rstrip("\n") for line in sys.stdin)))
