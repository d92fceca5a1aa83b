"""What flash-attn does on this machine's GPU, written to docs/gpu-report.md; `make gpu` runs it.

    python scripts/gpu_report.py [--output FILE]

Without a GPU it says NOT RUN, writes nothing and ends with 0. With one, it finds flash-attn or builds it, runs the
tests that are marked gpu, judges every family's sample with flash attention in bfloat16 and float16, and plants the
kernel faults of the self-test into models that run on the real kernels. It ends with 4 if anything failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "docs" / "gpu-report.md"
REQUIREMENT = "flash-attn==2.8.3.post2"
BUILT_WITH = ("ninja", "packaging", "wheel", "setuptools", "psutil", "einops")
DTYPES = ("bfloat16", "float16")
TESTS = ("tests/mixformer/test_attention.py", "tests/golden")


@dataclass(frozen=True)
class Row:
    """One line of the report. `number` and `budget`: a ratio to the reference's own error, None if nothing ran."""

    what: str
    dtype: str
    verdict: str
    number: float | None = None
    budget: float | None = None
    detail: str = ""

    @property
    def good(self) -> bool:
        """Whether this is as it should be: a fault that is caught, a model that passes, or one that is refused."""
        return self.verdict in ("PASS", "caught", "refused")


def build() -> str:
    """Finds flash-attn, or builds it for this GPU alone: how it came here.

    Raises:
        SystemExit: it cannot be built.
    """
    if find_spec("flash_attn_2_cuda") and find_spec("flash_attn"):
        return "found"
    major, minor = torch.cuda.get_device_capability()
    wanted = {"FLASH_ATTN_CUDA_ARCHS": f"{major}{minor}", "MAX_JOBS": str(os.cpu_count() or 1)}
    install = [sys.executable, "-m", "pip", "install"]
    tools = subprocess.run([*install, *BUILT_WITH], check=False)
    print(f"building {REQUIREMENT} for compute capability {major}.{minor}; this takes minutes", flush=True)
    command = [*install, "--no-build-isolation", "--no-deps", REQUIREMENT]
    if tools.returncode or subprocess.run(command, env=os.environ | wanted, check=False).returncode:
        raise SystemExit(f"{REQUIREMENT} could not be built: see above. The report is not written")
    return f"built from {REQUIREMENT}"


def marked_tests() -> Row:
    """The tests marked gpu, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *TESTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-300:]
    print(done.stdout[-4000:], flush=True)
    ran = re.search(r"\d+ passed", said)
    return Row("tests marked gpu", "", "PASS" if done.returncode == 0 and ran else "FAIL", detail=said.strip("= "))


def sample_rows(family: str, place: Path, device: str, dtypes: Sequence[str] = DTYPES) -> Iterator[Row]:
    """A family's sample as a MixFormer with flash attention, and kernel faults planted into it."""
    from converters import convert
    from converters.sample import write_sample
    from golden import record
    from golden.evidence.golden_file import read_golden

    theirs = write_sample(place / family, family)
    ours = convert(theirs, family, output=place / f"{family}-mixformer").output
    golden = record(theirs, place / f"{family}.golden.safetensors", tokens=64)
    for dtype in dtypes:
        row = judged(family, ours, golden, dtype, device)
        yield row
        if row.verdict == "PASS":
            yield from planted(family, ours, read_golden(golden), dtype, device)


def judged(family: str, ours: Path, golden: Path, dtype: str, device: str) -> Row:
    """L3 with flash attention, against the error that the reference has in that precision."""
    from golden import compare
    from golden.errors import MissingDeviceError

    try:
        verdict = compare(ours, golden=golden, levels=["L3"], attn="flash", dtype=dtype, device=device)
    except MissingDeviceError as refused:
        return Row(family, dtype, "refused", detail=str(refused).partition(": ")[2])
    level = verdict.level("L3 flash")
    refused = str(level.status) == "NOT RUN"
    return Row(family, dtype, "refused" if refused else str(level.status), level.number, level.budget, level.detail)


def planted(family: str, ours: Path, evidence: Any, dtype: str, device: str) -> Iterator[Row]:
    """Each kernel fault of this precision that the model can have, over the real kernels."""
    from golden.evidence.calibration import LOW_PRECISION
    from golden.faults.kernel_faults import kernel_faults
    from golden.levels.kernels import PROBE_RATIO, probe_ratios
    from golden.models.loading import FLASH, load_model
    from golden.models.running import ModelRunner

    for fault in kernel_faults():
        if fault.dtype != dtype:
            continue
        runner = ModelRunner(load_model(ours, LOW_PRECISION[dtype], FLASH, device))
        if fault.plant(runner):
            worst = max(probe_ratios(runner, evidence.calibration(dtype)).values(), default=0.0)
            caught = "caught" if worst > PROBE_RATIO else "missed"
            yield Row(f"{family}: {fault.name.partition(',')[0]}", dtype, caught, worst, PROBE_RATIO)


def report(machine: str, rows: Iterable[Row]) -> str:
    """The page."""
    rows = list(rows)
    bad = [row for row in rows if not row.good]
    verdict = f"FAIL: {len(bad)} of {len(rows)} lines are not as they should be." if bad else "PASS."
    lines = [
        "# flash-attn on a GPU",
        "",
        verdict,
        "",
        machine,
        "",
        "A number is the largest error over the reference's",
    ]
    lines += [
        "own error in the same precision; a model passes below its budget, a planted fault is caught above it.",
        "",
    ]
    lines += ["| what | precision | verdict | number | budget | |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        number, budget = (f"{n:.3g}" if n is not None else "" for n in (row.number, row.budget))
        detail = " ".join(row.detail.split()).replace("|", "\\|").replace("<", "&lt;")
        lines.append(f"| {row.what} | {row.dtype} | {row.verdict} | {number} | {budget} | {detail} |")
    return "\n".join(lines) + "\n"


def machine(how: str) -> str:
    """Device and versions."""
    from importlib.metadata import version

    from golden.evidence.versions import installed_versions

    device = torch.cuda.get_device_properties(0)
    versions = installed_versions() | {"CUDA": torch.version.cuda, "flash-attn": f"{version('flash-attn')} ({how})"}
    said = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"On {device.name}, compute capability {device.major}.{device.minor}, {device.total_memory >> 30} GiB: {said}."
    )


def main() -> int:
    """Reads the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=REPORT)
    output = parser.parse_args().output
    if not torch.cuda.is_available():
        why = "there is no CUDA device on this machine" if torch.version.cuda else "this torch is built without CUDA"
        print(f"NOT RUN: {why}; docs/gpu-report.md is left as it is")
        return 0
    from golden.models.hot import own_functions

    how, rows = build(), [marked_tests()]
    with tempfile.TemporaryDirectory() as place:
        for family in own_functions():
            for row in sample_rows(family, Path(place), "cuda"):
                print(f"{row.what}, {row.dtype}: {row.verdict} {row.detail}", flush=True)
                rows.append(row)
                output.write_text(report(machine(how), rows))  # what is known so far, if the run is cut off
    return 0 if all(row.good for row in rows) else 4


if __name__ == "__main__":
    sys.exit(main())
