"""`--engine ray`: the models of a zoo as tasks of a Ray cluster that runs already (Ray 2.60).

Its machines need this package, the folder of the zoo file under the same path, and, to push, a token of their own.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cli.zoo.entries import Entry
from cli.zoo.outcome import Outcome
from cli.zoo.running import Share, one
from converters.errors import UsageError

ADDRESS = "RAY_ADDRESS"


def outcomes(entries: Sequence[Entry], home: Path, jobs: int) -> Iterator[tuple[int, Outcome]]:
    """Number and outcome of each entry, in the order in which they end; at most `jobs` at a time.

    Raises:
        UsageError: Ray is not installed, or there is no cluster.
    """
    ray = _connected()
    try:
        share = Share.of(jobs)
        task = ray.remote(num_cpus=share.threads, max_retries=0)(one)
        waiting = list(enumerate(entries))
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < jobs:
                k, entry = waiting.pop(0)
                running[task.remote(entry, home, share)] = k
            (done,), _ = ray.wait(list(running), num_returns=1)
            k = running.pop(done)
            yield k, _result(ray, done, entries[k])
    finally:
        ray.shutdown()


def _connected() -> Any:
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs Ray: pip install 'mixformer[ray]'") from None
    address = os.environ.get(ADDRESS) or "auto"
    try:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        ray.init(address=address, include_dashboard=None if address != "local" else False, **quiet)
    except ConnectionError as error:
        told = str(error).splitlines()[0]
        raise UsageError(f"no Ray cluster can be reached ({ADDRESS} is {address}): {told}; ray start --head") from None
    return ray


def _result(ray: Any, done: Any, entry: Entry) -> Outcome:
    """What a task gave; a task that was lost with its machine is an error of that model alone."""
    try:
        found: Outcome = ray.get(done)
    except ray.exceptions.RayError as error:
        first = str(error).strip().splitlines()[0]
        where = (entry.source, entry.family or "", entry.to, entry.output)
        return Outcome(*where, "ERROR", 1, entry.push or "", error=f"its task ended: {first}")
    return found
