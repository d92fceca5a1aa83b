"""How two models are run in the memory of this machine: the dtype, and whole models or layer by layer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

LOADING = 1.15
"""Peak memory over final size while transformers loads a checkpoint."""

SHARE = "MIXFORMER_MEMORY"
"""Environment variable: bytes that one of several processes may take, at most."""

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class RunPlan:
    """How two models are run. ``itemsize``: 8 for float64, 4 for float32. ``together``: both stay in memory.

    ``streamed``: neither stays in memory, both are run a layer at a time, and only L2 can be judged. ``need`` and
    ``have`` are bytes.
    """

    itemsize: int
    together: bool
    need: int
    have: int
    streamed: bool = False

    @property
    def fits(self) -> bool:
        """Whether there is enough memory."""
        return self.need <= self.have

    def __str__(self) -> str:
        return f"needs {self.need / 2**30:.1f} GiB of memory, {self.have / 2**30:.1f} GiB are available"


def available_bytes() -> int:
    """Bytes of memory available without swapping: the kernel's estimate, or the container's limit if that is less.

    A process that has a share (see ``SHARE``) takes no more than that.
    """
    share = os.environ.get(SHARE, "")
    return min(_of_machine(), int(share)) if share.isdigit() else _of_machine()


def _of_machine() -> int:
    have = _from_meminfo()
    try:
        limit = (_GROUP / "memory.max").read_text().strip()
        used = int((_GROUP / "memory.current").read_text())
        cached = _file_cache((_GROUP / "memory.stat").read_text())
    except (OSError, ValueError):
        return have
    return have if limit == "max" else min(have, int(limit) - used + cached)


def _from_meminfo() -> int:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _file_cache(stat: str) -> int:
    fields = dict(line.split() for line in stat.splitlines())
    return int(fields.get("inactive_file", 0)) + int(fields.get("active_file", 0))


def plan_run(
    reference: int, candidate: int, logits: int, have: int, narrowest: int = 4, widest: int = 8, layers: int = 0
) -> RunPlan:
    """The best plan that fits, or the cheapest one (``need > have``) where nothing does.

    Whole models are preferred, in float32 if necessary, because only they allow L3 and L4.

    Args:
        reference: number of weights of the reference; 0 where a golden file stands for it.
        candidate: number of weights of the candidate.
        logits: elements of the longest prompt's logits; six such arrays are alive at once.
        have: bytes available.
        layers: weights of the largest layers of both, together; 0 to never run layer by layer.
    """
    itemsizes = [itemsize for itemsize in (8, 4) if narrowest <= itemsize <= widest]
    plans = []
    for itemsize in itemsizes:
        workspace = 6 * logits * itemsize + 2 * max(reference, candidate)  # L3 loads a 16-bit model too
        both = int((reference + candidate) * itemsize * LOADING) + workspace
        larger = int(max(reference, candidate) * itemsize * LOADING) + workspace
        plans += [RunPlan(itemsize, True, both, have), RunPlan(itemsize, False, larger, have)]
    for itemsize in itemsizes if layers else []:
        need = int(2 * layers * itemsize * LOADING) + 6 * logits * itemsize  # one runs, the next is read
        plans.append(RunPlan(itemsize, True, need, have, streamed=True))
    return next((plan for plan in plans if plan.fits), plans[-1])
