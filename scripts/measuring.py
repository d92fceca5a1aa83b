"""Whole processes measured: wall, CPU, peak anonymous memory; in interleaved rounds, for ratios within a round."""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONVERT = Path(sys.executable).parent / "convert"
RESULTS = ROOT / "bench-results"
SETTLING = 3  # seconds

# An installed package has its bytecode; where writing it is forbidden, every run would time the compiler.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Run:
    """One run of a command: seconds of wall and CPU time, peak anonymous memory of its processes in MiB."""

    wall: float
    cpu: float
    anonymous: float


def measured(command: Sequence[str]) -> Run:
    """Runs a command to its end."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
    peak, done = [0.0], threading.Event()
    watch = threading.Thread(target=_watch, args=(child.pid, peak, done))
    watch.start()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    done.set()
    watch.join()
    assert child.stderr is not None
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{child.stderr.read().decode()}")
    child.returncode = 0
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


def interleaved(commands: Mapping[str, list[str]], rounds: int, before: Callable[[], None]) -> dict[str, list[Run]]:
    """Every command once a round, in random order; `before` runs ahead of each."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for k in range(rounds):
        order = list(commands)
        random.Random(k).shuffle(order)
        for name in order:
            before()
            runs[name].append(measured(commands[name]))
            print(f"round {k + 1}/{rounds}: {name}: {runs[name][-1].wall:.2f} s", file=sys.stderr)
    return runs


def ratios(runs: Mapping[str, list[Run]], name: str, other: str) -> list[float]:
    """Wall time of one command over another's, round by round."""
    return [a.wall / b.wall for a, b in zip(runs[name], runs[other], strict=True)]


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Median (min..max)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}..{max(values):{form}})"


def warm(source: Path) -> None:
    """Brings the input into the page cache."""
    for path in source.iterdir():
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def free_pages(source: Path) -> None:
    """Brings as much free memory into this machine as a copy of the input takes.

    A virtual machine may hand free pages back to its host, and the first to write to one of them waits for the host:
    the same `cp` then takes 0.4 s or 3 s. A copy that is deleted at once leaves pages that are at hand for everybody.
    What the run before has freed is handed back within seconds, at the cost of a core, so that is waited for.
    """
    time.sleep(SETTLING)
    spare = source.parent / "spare"
    with spare.open("wb") as copy:
        for path in source.iterdir():
            with path.open("rb") as file:
                shutil.copyfileobj(file, copy, 1 << 20)
    spare.unlink()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk of the repository, gone at the end."""
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=ROOT) as place:
        yield Path(place)


def machine() -> str:
    """The load that others put on the machine belongs to every figure."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[1]:.1f} in the last five minutes"


def keep(name: str, lines: Sequence[str], runs: Mapping[str, Sequence[Run]]) -> None:
    """Prints a result and puts it, with every run, into `bench-results`."""
    RESULTS.mkdir(exist_ok=True)
    content = {title: [asdict(run) for run in found] for title, found in runs.items()}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join([*lines, ""]), flush=True)
