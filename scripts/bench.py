"""Conversion against `cp` and against transformers: wall, CPU and anonymous memory, interleaved, as table and JSON.

Usage: bench.py [--size 1GB] [--rounds 5] [--without-naive]
"""

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from synthetic import SIZES, write_llama

ROOT = Path(__file__).parent.parent
CONVERT = Path(sys.executable).parent / "convert"
RESULTS = ROOT / "bench-results"


@dataclass(frozen=True)
class Run:
    """One run of one route: seconds of wall and CPU time, peak anonymous memory of its processes in MiB."""

    wall: float
    cpu: float
    anonymous: float


def routes(source: Path, target: Path) -> dict[str, list[str]]:
    """Name -> command; each makes `target` from `source`."""
    ours = [str(CONVERT), "llama", str(source), "--to", "mixformer", "-o", str(target), "--no-parity", "--quiet"]
    copy = f"cp -r --reflink=never {source} {target}"
    return {
        "cp": ["sh", "-c", copy],
        "cp + sync": ["sh", "-c", f"{copy} && sync -f {target}"],
        "convert --no-hash --no-fsync": [*ours, "--no-hash", "--no-fsync"],
        "convert --no-hash": [*ours, "--no-hash"],
        "convert (hashed, durable)": ours,
        "transformers load, remap, save": [
            sys.executable,
            str(ROOT / "scripts" / "naive_conversion.py"),
            str(source),
            str(target),
        ],
    }


def measured(command: Sequence[str]) -> Run:
    """Runs a command to its end."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak, done = [0.0], threading.Event()
    watch = threading.Thread(target=_watch, args=(child.pid, peak, done))
    watch.start()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    done.set()
    watch.join()
    if status:
        assert child.stderr is not None
        raise SystemExit(f"{' '.join(command)} failed:\n{child.stderr.read().decode()}")
    child.returncode = 0
    assert child.stderr is not None
    child.stderr.close()
    return Run(wall, usage.ru_utime + usage.ru_stime, peak[0])


def _watch(pid: int, peak: list[float], done: threading.Event) -> None:
    while not done.wait(0.005):
        peak[0] = max(peak[0], _anonymous(pid))


def _anonymous(pid: int) -> float:
    """Anonymous resident memory of a process and its children, in MiB."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    own = next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon")), 0.0)
    return own + sum(_anonymous(int(child)) for child in children)


def warm(source: Path) -> None:
    """Brings the input into the page cache."""
    for path in source.iterdir():
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def interleaved(commands: dict[str, list[str]], rounds: int, before: Callable[[], None]) -> dict[str, list[Run]]:
    """Every route once a round, in random order; `before` runs ahead of each."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for k in range(rounds):
        order = list(commands)
        random.Random(k).shuffle(order)
        for name in order:
            before()
            runs[name].append(measured(commands[name]))
            print(f"round {k + 1}/{rounds}: {name}: {runs[name][-1].wall:.2f} s", file=sys.stderr)
    return runs


def paired(runs: dict[str, list[Run]], name: str, other: str) -> list[float]:
    """Wall time of one route over another's, round by round."""
    return [a.wall / b.wall for a, b in zip(runs[name], runs[other], strict=True)]


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Median (min..max)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}..{max(values):{form}})"


def report(runs: dict[str, list[Run]], size: str, nbytes: int) -> str:
    """The table as Markdown."""
    lines = [
        f"{size} bf16 LLaMA ({nbytes:,} bytes), warm, {len(next(iter(runs.values())))} interleaved rounds,"
        f" median (min..max); {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "",
        "| route | wall s | CPU s | x cp | x (cp + sync) | anonymous MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in runs.items():
        cells = [spread([run.wall for run in found]), spread([run.cpu for run in found])]
        cells += [spread(paired(runs, name, other)) for other in ("cp", "cp + sync")]
        cells.append(spread([run.anonymous for run in found], ".0f"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the benchmark."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--size", choices=SIZES, default="1GB")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--without-naive", action="store_true")
    options = words.parse_args()
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=ROOT) as place:
        source, target = Path(place) / "source", Path(place) / "target"
        write_llama(source, SIZES[options.size])
        commands = routes(source, target)
        if options.without_naive:
            del commands["transformers load, remap, save"]

        def before() -> None:
            shutil.rmtree(target, ignore_errors=True)
            os.sync()
            warm(source)

        runs = interleaved(commands, options.rounds, before)
        nbytes = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    table = report(runs, options.size, nbytes)
    RESULTS.mkdir(exist_ok=True)
    content = {name: [asdict(run) for run in found] for name, found in runs.items()}
    (RESULTS / f"conversion-{options.size}.json").write_text(json.dumps(content, indent=2) + "\n")
    (RESULTS / f"conversion-{options.size}.md").write_text(table + "\n")
    print(table)


main()
