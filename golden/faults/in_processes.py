"""Calls of one function in several processes: results in their order, and no process is left, however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any, TypeVar

from golden.errors import UnverifiableError
from golden.models.memory import SHARE, available_bytes

Result = TypeVar("Result")
Told = Callable[[int, int], None]
"""Called as ``told(first, ended)``: the number of the first call that has not ended, and how many have."""

NEED = 2**30
"""Bytes of memory that a process with torch, transformers and a few tiny models is given; it takes 0.6 GiB."""


def usable_jobs() -> int:
    """How many processes this machine has cores and memory for, at least one."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cores, available_bytes() // NEED))


def call_all(function: Callable[..., Result], cases: Sequence[tuple[Any, ...]], jobs: int, told: Told) -> list[Result]:
    """The results of ``function(*case)``, in the order of the cases.

    Args:
        function: of a module, so that another process can import it.
        jobs: number of processes; with 1 the calls are made in this one.

    Raises:
        UnverifiableError: a process ended before its call did.
        Exception: what a call raised; no further call is made.
    """
    if min(jobs, len(cases)) > 1:
        return _in_processes(function, cases, min(jobs, len(cases)), told)
    results = []
    for number, case in enumerate(cases):
        told(number, number)
        results.append(function(*case))
    return results


def _in_processes(
    function: Callable[..., Result], cases: Sequence[tuple[Any, ...]], jobs: int, told: Told
) -> list[Result]:
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (available_bytes() // jobs,))
    workers: set[BaseProcess] = set()
    try:
        with _interrupts_held():  # a process inherits that: Ctrl-C on a terminal reaches this process alone
            others = set(active_children())
            calls = [pool.submit(function, *case) for case in cases]
            workers = set(active_children()) - others  # now: the caller may start processes of its own
        return _results(calls, told)
    except BrokenProcessPool as broken:
        raise UnverifiableError(
            "a process ended before its call did: ended by the system, as it does where memory runs out (give fewer "
            'jobs), or asked for by a script outside of `if __name__ == "__main__"`'
        ) from broken
    except BaseException:
        for worker in workers:
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _results(calls: Sequence[Future[Result]], told: Told) -> list[Result]:
    told(0, 0)
    for ended, call in enumerate(as_completed(calls), 1):
        call.result()
        running = (number for number, other in enumerate(calls) if not other.done())
        if ended < len(calls):
            told(next(running, len(calls) - 1), ended)
    return [call.result() for call in calls]


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C inside takes effect at the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(share: int) -> None:
    """What each process does first: it keeps to its share of memory, and ends when the one that started it has."""
    os.environ[SHARE] = str(share)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
