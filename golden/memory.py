"""How to run two models on this machine: in which dtype, side by side or one after the other."""

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
    """``itemsize`` is 8 for float64 and 4 for float32; ``together`` says that both models stay in memory."""

    itemsize: int
    together: bool
    need: int
    have: int


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


def plan_run(reference: int, candidate: int, logits: int, have: int, narrowest: int = 4, widest: int = 8) -> RunPlan:
    """The best plan that fits, or the cheapest one (``need > have``) where nothing does.

    Args:
        reference: number of weights of the reference; 0 where a golden file stands for it.
        candidate: number of weights of the candidate.
        logits: elements of the longest prompt's logits; six such arrays are alive at once.
        have: bytes available.
    """
    plans = []
    for itemsize in (8, 4):
        if not narrowest <= itemsize <= widest:
            continue
        workspace = 6 * logits * itemsize + 2 * max(reference, candidate)  # L3 loads a 16-bit model beside
        both = int((reference + candidate) * itemsize * LOADING) + workspace
        larger = int(max(reference, candidate) * itemsize * LOADING) + workspace
        plans += [RunPlan(itemsize, True, both, have), RunPlan(itemsize, False, larger, have)]
    return next((plan for plan in plans if plan.need <= have), plans[-1])
