"""Calls in several processes: in their order, with their own errors, and no process is left whatever ends them."""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import active_children, get_context
from pathlib import Path

import pytest

from converters.errors import UsageError
from converters.family import get_family
from golden.errors import UnknownLevelError, UnverifiableError
from golden.faults import in_processes
from golden.faults.in_processes import NEED, call_all, usable_jobs
from golden.models.memory import SHARE

LONG = 60.0


def unheard(first: int, ended: int) -> None:
    """Progress that nobody follows."""


def refuse(level: str) -> None:
    raise UnknownLevelError(f"there is no level {level}")


def kill_worker(pid: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(autouse=True)
def nothing_left() -> object:
    yield
    assert active_children() == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_are_in_the_order_of_the_cases_whichever_ends_first(jobs: int) -> None:
    heard: list[tuple[int, int]] = []
    cases = [(list(range(size)),) for size in (200_000, 3, 2, 1)]
    assert call_all(len, cases, jobs, lambda *told: heard.append(told)) == [200_000, 3, 2, 1]
    assert [ended for _, ended in heard] == [0, 1, 2, 3]
    assert {first for first, _ in heard} <= set(range(4)) and heard[0] == (0, 0)


def test_one_job_is_done_here_and_more_elsewhere() -> None:
    assert call_all(os.getpid, [(), ()], 1, unheard) == [os.getpid()] * 2
    assert os.getpid() not in call_all(os.getpid, [(), ()], 2, unheard)
    assert call_all(os.getpid, [()], 2, unheard) == [os.getpid()]


def test_each_process_is_told_its_share_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_processes, "available_bytes", lambda: 1000)
    assert call_all(os.getenv, [(SHARE,), (SHARE,)], 2, unheard) == ["500", "500"]
    assert os.getenv(SHARE) is None


def test_jobs_are_as_many_as_cores_and_memory_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    found = []
    for have in (0, 3 * NEED, 100 * NEED):
        monkeypatch.setattr(in_processes, "available_bytes", lambda have=have: have)
        found.append(usable_jobs())
    assert found == [1, 3, 8]


@pytest.mark.parametrize(
    ("call", "case", "error"),
    [(get_family, "lama", UsageError), (refuse, "L9", UnknownLevelError), (operator.neg, "word", TypeError)],
)
def test_an_error_arrives_as_it_is(call: Callable[[str], object], case: str, error: type[Exception]) -> None:
    with pytest.raises(error) as here:
        call(case)
    with pytest.raises(error) as there:
        call_all(call, [(case,), (case,)], 2, unheard)
    assert type(there.value) is type(here.value) and str(there.value) == str(here.value)


def test_an_error_does_not_wait_for_other_calls() -> None:
    began = time.monotonic()
    with pytest.raises(TypeError):
        call_all(time.sleep, [("word",), (LONG,), (LONG,)], 2, unheard)
    assert time.monotonic() - began < LONG / 2


def test_processes_of_the_caller_are_left_alone() -> None:
    theirs = get_context("spawn").Process(target=time.sleep, args=(LONG,))

    def told(first: int, ended: int) -> None:
        theirs.start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_all(time.sleep, [(LONG,), (LONG,)], 2, told)
    theirs.join(0.5)
    alive = theirs.is_alive()
    theirs.kill()
    theirs.join()
    assert alive


def test_a_process_that_is_killed_is_told() -> None:
    with pytest.raises(UnverifiableError, match="a process ended before its call did"):
        call_all(kill_worker, [(0,), (1,)], 2, unheard)


SCRIPT = """
import os, sys, time
from pathlib import Path
from golden.faults.in_processes import call_all

def wait(number):
    Path(sys.argv[1], str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    call_all(wait, [(1,), (2,)], 2, lambda *told: None)
elif sys.argv[2] == "import":
    wait(0)
"""


@pytest.mark.parametrize(
    ("where", "number"),
    [("import", signal.SIGINT), ("call", signal.SIGINT), ("call", signal.SIGTERM), ("call", signal.SIGKILL)],
)
def test_no_process_outlives_the_first(where: str, number: int, tmp_path: Path) -> None:
    """Ctrl-C on a terminal reaches all of them; only the first says something, and ends the others."""
    script, begun = tmp_path / "script.py", tmp_path / "begun"
    script.write_text(SCRIPT)
    begun.mkdir()
    words = [sys.executable, str(script), str(begun), where]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        wait_until(lambda: len(list(begun.iterdir())) == 2)
        for other in begun.iterdir():
            os.kill(int(other.name), signal.SIGINT)
        time.sleep(0.3)
        assert len(group(run.pid)) >= 3
        run.send_signal(number)
        _, told = run.communicate(timeout=30)
    assert told.count("KeyboardInterrupt") == told.count("Traceback") == (number == signal.SIGINT)
    wait_until(lambda: not group(run.pid))


def group(leader: int) -> list[int]:
    """Processes of a group that still run."""
    stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    return [leader for state, _, pgrp, *_ in stats if int(pgrp) == leader and state != "Z"]


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
