"""`make gpu`: without a GPU it says so; its judging is tried on the CPU, over kernels that are written in torch."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_report", ROOT / "scripts" / "gpu_report.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "scripts" / "gpu_report.py", "--output", tmp_path / "report.md"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.partition(":")[0]) == (0, "NOT RUN")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("flash_package")
def test_a_sound_sample_passes_and_kernel_faults_are_caught(script: ModuleType, tmp_path: Path) -> None:
    model, *faults = script.sample_rows("llama", tmp_path, "cpu", ["bfloat16"])
    assert (model.verdict, model.budget) == ("PASS", 1.5) and 0 < model.number <= 1.5
    assert len(faults) >= 3 and {row.verdict for row in faults} == {"caught"}
    assert all(row.good for row in (model, *faults))


@pytest.mark.usefixtures("flash_package")
def test_a_wrong_kernel_fails(
    script: ModuleType, standin: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = standin.attend

    def scaled(q: Tensor, k: Tensor, v: Tensor, slopes: Any, scale: float, **rule: Any) -> Tensor:
        return honest(q, k, v, slopes, 1.05 * scale, **rule)

    monkeypatch.setattr(standin, "attend", scaled)
    (row,) = script.sample_rows("llama", tmp_path, "cpu", ["bfloat16"])
    assert row.verdict == "FAIL" and not row.good


def test_what_flash_cannot_compute_is_refused_with_a_sentence(script: ModuleType, tmp_path: Path) -> None:
    (row,) = script.sample_rows("llama", tmp_path, "cpu", ["float16"])  # flash-attn has no kernels for a CPU
    assert row.verdict == "refused" and "run on cuda, not on cpu" in row.detail


def test_the_page_says_what_failed(script: ModuleType) -> None:
    rows = [script.Row("llama", "bfloat16", "PASS", 1.1, 1.5), script.Row("gpt2", "float16", "FAIL", 2.0, 1.5, "a | b")]
    assert script.report("On X.", rows[:1]).splitlines()[2] == "PASS."
    page = script.report("On X.", rows)
    assert page.splitlines()[2].startswith("FAIL: 1 of 2")
    assert r"| gpt2 | float16 | FAIL | 2 | 1.5 | a \| b |" in page


def test_the_page_in_the_docs_claims_nothing_that_was_not_run() -> None:
    page = (ROOT / "docs" / "gpu-report.md").read_text()
    assert page.startswith("# flash-attn on a GPU\n\n")
    assert "NOT RUN" in page or page.splitlines()[4].startswith("On ")
