"""How to run two models on this machine: in which dtype, side by side, one after the other, or layer by layer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

LOADING = 1.15
"""Peak over final size while transformers loads a checkpoint."""

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class RunPlan:
    """``itemsize`` is 8 for float64 and 4 for float32; ``together`` says that both models stay in memory.

    ``streamed`` says that neither does: both are run a layer at a time, and no more than L2 can be asked of them.
    """

    itemsize: int
    together: bool
    need: int
    have: int
    streamed: bool = False

    @property
    def fits(self) -> bool:
        """Whether there is the memory for it."""
        return self.need <= self.have

    def __str__(self) -> str:
        return f"needs {self.need / 2**30:.1f} GiB of memory, {self.have / 2**30:.1f} GiB are available"


def available_bytes() -> int:
    """Memory that can be had without swapping: the kernel's estimate, cut to what a container is allowed."""
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

    Whole models come first, in float32 if need be: they can be asked for text and kernels too.

    Args:
        reference: number of weights of the reference; 0 where a golden file stands for it.
        candidate: number of weights of the candidate.
        logits: elements of the longest prompt's logits; six such arrays are alive at once.
        have: bytes available.
        layers: weights of the largest layers of both, together; 0 where models are not to be run layer by layer.
    """
    itemsizes = [itemsize for itemsize in (8, 4) if narrowest <= itemsize <= widest]
    plans = []
    for itemsize in itemsizes:
        workspace = 6 * logits * itemsize + 2 * max(reference, candidate)  # L3 loads a 16-bit model beside
        both = int((reference + candidate) * itemsize * LOADING) + workspace
        larger = int(max(reference, candidate) * itemsize * LOADING) + workspace
        plans += [RunPlan(itemsize, True, both, have), RunPlan(itemsize, False, larger, have)]
    for itemsize in itemsizes if layers else []:
        need = int(layers * itemsize * LOADING) + 6 * logits * itemsize
        plans.append(RunPlan(itemsize, True, need, have, streamed=True))
    return next((plan for plan in plans if plan.fits), plans[-1])
