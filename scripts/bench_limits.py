"""What must not grow with a model: the time to plan, the memory of a conversion, the disk that cloning takes.

Usage: bench_limits.py [plan] [memory] [xfs]
"""

import argparse
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measuring import CONVERT, Run, interleaved, keep, machine, measured, scratch, spread, warm
from synthetic import SIZES, SPARSE_SIZES, write_llama

ROUNDS = 5


def conversion(source: Path, target: Path, *options: str) -> list[str]:
    """The command."""
    words = ["llama", str(source), "--to", "mixformer", "-o", str(target), "--no-parity", "--quiet"]
    return [str(CONVERT), *words, *options]


def bench_plan() -> None:
    """The plan of a model of 70 billion parameters, from headers, and the shortest possible command beside it."""
    with scratch() as place:
        source = write_llama(place / "source", SPARSE_SIZES["70B"], sparse=True)
        commands = {
            "convert --help": [str(CONVERT), "--help"],
            "convert plan (70B)": [str(CONVERT), "plan", "llama", str(source), "--to", "mixformer"],
        }
        runs = interleaved(commands, ROUNDS, before=lambda: None)
    lines = [f"{name}: {spread([run.wall for run in found])} s" for name, found in runs.items()]
    keep("plan", [f"whole processes, median (min..max) of {ROUNDS}; {machine()}", *lines], runs)


def bench_memory() -> None:
    """Peak anonymous memory of the copying, hashing, durable conversion: the same for 1 GB as for 8 GB.

    For 64 GB, a disk of that size is needed unless its ranges are shared, so that is part of `xfs`.
    """
    runs: dict[str, list[Run]] = {}
    with scratch() as place:
        for size in ("1GB", "8GB"):
            source, target = write_llama(place / size, SPARSE_SIZES[size], sparse=True), place / f"{size}-target"
            runs[size] = [measured(conversion(source, target))]
            shutil.rmtree(target)
    lines = [f"{size}: {found[0].anonymous:.0f} MiB, {found[0].wall:.1f} s" for size, found in runs.items()]
    keep("memory", ["peak anonymous memory, hashed and durable, everything copied", *lines], runs)


def bench_xfs() -> None:
    """1 GB and 64 GB on a filesystem that shares ranges: time, new disk, memory."""
    with scratch() as place, xfs(place) as mounted:
        if mounted is None:
            return
        source, target = write_llama(mounted / "source", SIZES["1GB"]), mounted / "target"
        huge = write_llama(mounted / "huge", SPARSE_SIZES["64GB"], sparse=True)
        disk: dict[str, list[int]] = {}

        def before() -> None:
            shutil.rmtree(target, ignore_errors=True)
            os.sync()
            warm(source)

        runs: dict[str, list[Run]] = {"1 GB": [], "64 GB (holes)": []}
        for name, folder in zip(runs, (source, huge), strict=True):
            for _ in range(ROUNDS):
                before()
                used = shutil.disk_usage(mounted).used
                runs[name].append(measured(conversion(folder, target, "--no-hash")))
                os.sync()
                disk.setdefault(name, []).append(shutil.disk_usage(mounted).used - used)
    lines = [f"convert --no-hash on XFS, median (min..max) of {ROUNDS}; {machine()}"]
    for name, found in runs.items():
        time, memory = spread([run.wall for run in found]), spread([run.anonymous for run in found], ".0f")
        lines.append(f"{name}: {time} s, {memory} MiB anonymous, {spread(disk[name], ',.0f')} bytes of new disk")
    keep("xfs", lines, runs)


@contextmanager
def xfs(place: Path) -> Iterator[Path | None]:
    """A fresh XFS of its own, or None, with the reason said, where none can be made."""
    maker = shutil.which("mkfs.xfs")
    if not maker or os.geteuid() != 0:
        print("xfs: skipped, it needs root and mkfs.xfs")
        yield None
        return
    image, mounted = place / "image", place / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(96 << 30)  # sparse; what is free must suffice for 64 GB, although they are shared
    subprocess.run([maker, "-q", str(image)], check=True)
    mount = subprocess.run(["mount", "-o", "loop", image, mounted], capture_output=True, text=True, check=False)
    if mount.returncode:
        print(f"xfs: skipped, a loop image cannot be mounted here ({mount.stderr.strip()})")
        yield None
        return
    try:
        yield mounted
    finally:
        subprocess.run(["umount", mounted], check=True)


CASES = {"plan": bench_plan, "memory": bench_memory, "xfs": bench_xfs}


def main() -> None:
    """Runs the cases that are named, or all."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("cases", nargs="*", choices=[*CASES, []], default=[])
    for case in words.parse_args().cases or CASES:
        CASES[case]()


main()
