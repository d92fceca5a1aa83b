"""Conversion against `cp` and against transformers: wall, CPU and anonymous memory, interleaved, as table and JSON.

Usage: bench.py [--set llama-1GB] [--rounds 5] [--without-naive]
"""

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from measuring import CONVERT, ROOT, Run, free_pages, interleaved, keep, machine, ratios, scratch, spread, warm
from synthetic import GPT2_SIZES, SIZES, write_gpt2, write_llama

NAIVE = "transformers load, remap, save"
SETS = [*(f"llama-{size}" for size in SIZES), *(f"gpt2-{size}" for size in GPT2_SIZES)]


def write(name: str, folder: Path) -> Path:
    """The synthetic checkpoint of that name."""
    family, _, size = name.partition("-")
    return write_llama(folder, SIZES[size]) if family == "llama" else write_gpt2(folder, GPT2_SIZES[size])


def routes(family: str, source: Path, target: Path) -> dict[str, list[str]]:
    """Name -> command; each makes `target` from `source`."""
    ours = [str(CONVERT), family, str(source), "--to", "mixformer", "-o", str(target), "--no-parity", "--quiet"]
    copy = f"cp -r --reflink=never {source} {target}"
    naive = [sys.executable, str(ROOT / "scripts" / "naive_conversion.py"), str(source), str(target)]
    return {
        "cp": ["sh", "-c", copy],
        "cp + sync": ["sh", "-c", f"{copy} && sync -f {target}"],
        "convert --no-hash --no-fsync": [*ours, "--no-hash", "--no-fsync"],
        "convert --no-hash": [*ours, "--no-hash"],
        "convert (hashed, durable)": ours,
        **({NAIVE: naive} if family == "llama" else {}),
    }


def report(runs: Mapping[str, Sequence[Run]], name: str, nbytes: int) -> list[str]:
    """The table as Markdown."""
    others = ["cp", "cp + sync", *([NAIVE] if NAIVE in runs else [])]
    lines = [
        f"{name} ({nbytes:,} bytes), warm, {len(next(iter(runs.values())))} interleaved rounds, median (min..max);"
        f" {platform.machine()}, Python {platform.python_version()}, {machine()}",
        "",
        f"| route | wall s | CPU s | {' | '.join(f'x ({other})' for other in others)} | anonymous MiB |",
        "| --- " * (4 + len(others)) + "|",
    ]
    for route, found in runs.items():
        cells = [spread([run.wall for run in found]), spread([run.cpu for run in found])]
        cells += [spread(ratios(runs, route, other)) for other in others]
        cells.append(spread([run.anonymous for run in found], ".0f"))
        lines.append(f"| {route} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Runs the benchmark."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--set", choices=SETS, default="llama-1GB")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--without-naive", action="store_true")
    options = words.parse_args()
    with scratch() as place:
        source, target = write(options.set, place / "source"), place / "target"
        commands = routes(options.set.partition("-")[0], source, target)
        if options.without_naive:
            commands.pop(NAIVE, None)

        def before() -> None:
            shutil.rmtree(target, ignore_errors=True)
            os.sync()
            warm(source)
            free_pages(source)

        runs = interleaved(commands, options.rounds, before)
        nbytes = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    keep(f"conversion-{options.set}", report(runs, options.set, nbytes), runs)


main()
