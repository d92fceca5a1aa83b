"""Each model of a zoo in a process of its own, so that whatever happens to one happens to no other."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from cli.zoo.entries import Entry
from cli.zoo.outcome import Outcome, outcome

PROGRAM = (sys.executable, "-P", "-c", "from cli.start import main; main()")  # -P: not what lies in the folder
PATIENCE = 20.0  # seconds that an interrupted process gets to clean up


@dataclass(frozen=True)
class Share:
    """What one process may take: threads, and bytes of memory that judging plans with."""

    threads: int
    memory: int

    @classmethod
    def of(cls, jobs: int) -> "Share":
        """An equal share of this machine."""
        from golden.models.memory import available_bytes

        return cls(max(1, (os.cpu_count() or 1) // jobs), available_bytes() // jobs)

    def environment(self) -> dict[str, str]:
        """Variables that hold a process to it."""
        from golden.models.memory import SHARE

        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        return {**os.environ, **threads, SHARE: str(self.memory)}


@dataclass
class Processes:
    """Processes that run now; an interrupt reaches all of them, and no more are started."""

    running: set["subprocess.Popen[str]"] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)
    stopped: bool = False

    def run(self, words: Sequence[str], home: Path, environment: dict[str, str]) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a command of this program, run in a folder."""
        with self.lock:
            if self.stopped:
                return 130, "", "error: interrupted"
            child = subprocess.Popen(
                [*PROGRAM, *words],
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="backslashreplace",
            )
            self.running.add(child)
        try:
            out, err = child.communicate()
        finally:
            with self.lock:
                self.running.discard(child)
        return child.returncode, out, err

    def stop(self) -> None:
        """Interrupts what runs, and ends what does not end by itself."""
        with self.lock:
            self.stopped, left = True, list(self.running)
        for child in left:
            child.send_signal(signal.SIGINT)
        for child in left:
            try:
                child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()


def one(entry: Entry, home: Path, share: Share, processes: Processes | None = None) -> Outcome:
    """Converts, judges and pushes one model: what is missing or has changed, nothing else."""
    processes, environment = processes or Processes(), share.environment()
    family = entry.family or ""
    if not family:
        code, out, err = processes.run(["inspect", "--json", "--", entry.source], home, environment)
        found = outcome(entry, "", code, "", err)
        if code:
            return found
        family = _family(out)
    words = [family, "--to", entry.to, "-o", entry.output, "--update", "--json", *entry.words()]
    words += [] if any(name == "threads" for name, _ in entry.options) else ["--threads", str(share.threads)]
    words += ["--push", entry.push] if entry.push else []
    return outcome(entry, family, *processes.run([*words, "--", entry.source], home, environment))


def _family(out: str) -> str:
    import json

    return str(json.loads(out).get("family") or "")


def outcomes(entries: Sequence[Entry], home: Path, jobs: int) -> Iterator[tuple[int, Outcome]]:
    """Number and outcome of each entry, in the order in which they end."""
    share, processes = Share.of(jobs), Processes()
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(one, entry, home, share, processes): k for k, entry in enumerate(entries)}
        try:
            for done in as_completed(futures):
                yield futures[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop()
            raise
