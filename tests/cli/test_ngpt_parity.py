"""nGPT judged from the command line: PASS for each dialect, there and back, and a wrong number of heads is found."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CONVERT = [sys.executable, "-c", "from cli.main import main; main()"]


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CONVERT, *map(str, words)], capture_output=True, text=True, cwd=cwd, check=False)


def verdict_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The verdict that a conversion printed as JSON, with its levels by name."""
    found = json.loads(done.stdout)["verdict"]
    return {**found, "levels": {level["name"]: level for level in found["levels"]}}


LATER = [
    pytest.param(n, marks=pytest.mark.slow) for n in ("joeli", "olmo", "modded-nanogpt", "evintunador", "lucidrains")
]


@pytest.mark.parametrize("dialect", ["tutorial", "nvidia", *LATER])
def test_each_dialect_ends_with_pass_and_so_does_the_way_back(dialect, tmp_path):
    done = run("ngpt", "--to", "mixformer", "--dialect", dialect, "-o", "ours", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    verdict = verdict_of(done)
    assert verdict["verdict"] == "PASS"
    assert {verdict["levels"][name]["status"] for name in ("L0", "L1", "L2", "L3", "L4")} == {"PASS"}
    assert verdict["levels"]["L2"]["number"] < 1e-13
    done = run("mixformer", "ours", "--to", "ngpt", "-o", "back", "--json", cwd=tmp_path)
    assert done.returncode == 0 and verdict_of(done)["verdict"] == "PASS"
    assert run("diff", f"ngpt-{dialect}-sample", "back", cwd=tmp_path).returncode == 0


@pytest.mark.slow
def test_a_users_number_of_heads_reaches_the_reference(ngpt, tmp_path):
    ngpt.write_tutorial(tmp_path / "t.pt")
    done = run("ngpt", "t.pt", "--to", "mixformer", "--n-head", 4, "-o", "ours", "--json", cwd=tmp_path)
    assert done.returncode == 0 and verdict_of(done)["verdict"] == "PASS"
    words = ("parity", "ours", "--reference", "t.pt", "--levels", "L1,L2", "--json")
    assert run(*words, "--n-head", 4, cwd=tmp_path).returncode == 0
    done = run(*words, "--n-head", 6, cwd=tmp_path)
    assert done.returncode == 4 and json.loads(done.stdout)["verdict"] == "FAIL"
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 3 and "--n-head N" in done.stderr


@pytest.mark.slow
def test_a_golden_file_of_a_users_number_of_heads(ngpt, tmp_path):
    ngpt.write_tutorial(tmp_path / "t.pt")
    assert run("golden", "record", "t.pt", "-o", "t.golden", cwd=tmp_path).returncode == 3
    assert not (tmp_path / "t.golden").exists()
    assert run("golden", "record", "t.pt", "--n-head", 4, "-o", "t.golden", cwd=tmp_path).returncode == 0
    for n_head, code in ((4, 0), (2, 4)):
        words = ("t.pt", "--to", "mixformer", "--n-head", n_head, "-o", f"ours-{n_head}", "--no-parity")
        assert run("ngpt", *words, cwd=tmp_path).returncode == 0
        done = run("parity", f"ours-{n_head}", "--golden", "t.golden", "--levels", "L2", cwd=tmp_path)
        assert done.returncode == code, done.stdout


@pytest.mark.slow
def test_flash_attention_is_refused_with_the_reason(tmp_path):
    run("ngpt-tutorial", "--to", "mixformer", "-o", "ours", "--no-parity", cwd=tmp_path)
    done = run("parity", "ours", "--reference", "ngpt-tutorial-sample", "--attn", "flash", cwd=tmp_path)
    assert done.returncode == 5 and "has no softmax" in done.stderr
