"""What goes wrong in a conversion ends in FAIL from the command line, from a golden alone, with the reference gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MAIN = "from cli.main import main; main()"

EXCHANGED = """
from dataclasses import replace
from converters.families import llama

honest = llama.rules

def rules(ours):
    for rule in honest(ours):
        names = list(rule.theirs)
        for k, name in enumerate(names):
            if name.endswith(({one!r}, {other!r})):
                names[k] = name.replace({one!r}, "?").replace({other!r}, {one!r}).replace("?", {other!r})
        yield replace(rule, theirs=tuple(names))

llama.FAMILY = replace(llama.FAMILY, rules=lambda ours: tuple(rules(ours)))
"""
"""The LLaMA family with two tensors exchanged in its table, by hand: every shape is kept, and it undoes itself."""


def run(*words: object, cwd: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", before + MAIN, *map(str, words)]
    environment = {**os.environ, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample, what a right and two wrong families make of it, and its golden; then the sample is deleted."""
    folder = tmp_path_factory.mktemp("alone")
    words = ("llama", "--to", "mixformer", "-o", "sound", "--max-shard-size", "150KB", "--no-parity")
    assert run(*words, cwd=folder).returncode == 0
    golden = run("golden", "record", "llama-sample", "-o", "golden.safetensors", "--hidden", cwd=folder)
    assert golden.returncode == 0, golden.stderr
    for name in WRONG:
        words = ("llama", "llama-sample", "--to", "mixformer", "-o", name, "--no-parity")
        assert run(*words, cwd=folder, before=table(name)).returncode == 0
    shutil.rmtree(folder / "llama-sample")
    return folder


WRONG = {"gate-up": ("gate_proj.weight", "up_proj.weight"), "k-v": ("k_proj.weight", "v_proj.weight")}


def table(name: str) -> str:
    one, other = WRONG[name]
    return EXCHANGED.format(one=one, other=other)


def test_a_wrong_table_passes_what_is_judged_through_itself_and_fails_by_its_function(tmp_path: Path) -> None:
    wrong = table("gate-up")
    words = ("llama", "--to", "mixformer", "-o", "ours", "--json")
    done = run(*words, cwd=tmp_path, before=wrong)
    verdict = json.loads(done.stdout)["verdict"]
    found = statuses(verdict)
    assert (done.returncode, found["L0"], found["L1"], found["L2"]) == (4, "PASS", "PASS", "FAIL")
    back = ("mixformer", "ours", "--to", "llama", "-o", "back", "--no-parity")
    assert run(*back, cwd=tmp_path, before=wrong).returncode == 0
    assert run("diff", "llama-sample", "back", cwd=tmp_path).returncode == 0


def statuses(verdict: dict[str, Any]) -> dict[str, str]:
    return {level["name"]: level["status"] for level in verdict["levels"]}


def judged(candidate: Path, place: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and verdict, by an untouched program and nothing but the golden."""
    assert sorted(path.name for path in place.iterdir()) == ["gate-up", "golden.safetensors", "k-v", "sound"]
    words = ("parity", candidate, "--golden", place / "golden.safetensors", "--levels", "L0,L1,L2", "--json")
    done = run(*words, cwd=candidate.parent)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def copied(source: Path, target: Path, traces: bool) -> Path:
    shutil.copytree(source, target)
    if not traces:
        (target / "conversion.json").unlink()
    return target


def flip_sign(folder: Path, key: str) -> None:
    """The sign of one weight of median size or more, in whichever shard has it."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    path = folder / index["weight_map"][key]
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8:start])[key]["data_offsets"]
    values = memoryview(data)[start + begin : start + end].cast("f")
    at = max(range(len(values)), key=lambda i: abs(values[i]))
    values[at] = -values[at]
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "where", "claim", "traces"),
    [("gate-up", "layer 0, mlp", "gate and up", True), ("k-v", "layer 0, attention", "k and v", False)],
)
def test_a_wrong_rule_fails_by_its_function_and_is_named(
    name: str, where: str, claim: str, traces: bool, place: Path, tmp_path: Path
) -> None:
    code, verdict = judged(copied(place / name, tmp_path / name, traces), place)
    assert (code, verdict["verdict"], statuses(verdict)["L2"]) == (4, "FAIL", "FAIL")
    assert verdict["first_divergence"].startswith(where)
    assert verdict["hypothesis"].startswith(f"{claim} are exchanged")


@pytest.mark.parametrize("traces", [True, False], ids=["conversion.json kept", "conversion.json removed"])
def test_a_flipped_sign_in_a_shard_fails_by_its_function(traces: bool, place: Path, tmp_path: Path) -> None:
    bad = copied(place / "sound", tmp_path / "bad", traces)
    flip_sign(bad, "layers.2.mlp.fc2.weight")
    code, verdict = judged(bad, place)
    assert (code, verdict["verdict"], statuses(verdict)["L2"]) == (4, "FAIL", "FAIL")
    assert verdict["first_divergence"].startswith("layer 1, mlp")


def test_a_wrong_eps_fails_by_its_function_and_is_named(place: Path, tmp_path: Path) -> None:
    bad = copied(place / "sound", tmp_path / "bad", traces=True)
    config = json.loads((bad / "config.json").read_text())
    right = config["architecture"]["norm"]["eps"]
    config["architecture"]["norm"]["eps"] = right / 10
    (bad / "config.json").write_text(json.dumps(config))
    code, verdict = judged(bad, place)
    assert (code, verdict["verdict"], statuses(verdict)["L2"]) == (4, "FAIL", "FAIL")
    assert verdict["first_divergence"].startswith("layer 0, norm 1")
    assert verdict["hypothesis"].startswith(f"eps is {right / 10} and should be {right}")


def test_the_sound_conversion_passes_from_the_same_golden(place: Path) -> None:
    code, verdict = judged(place / "sound", place)
    assert (code, verdict["verdict"]) == (0, "PASS")
    assert [statuses(verdict)[name] for name in ("L0", "L1", "L2", "L3", "L4")] == [
        "PASS",
        "NOT RUN",
        "PASS",
        "NOT RUN",
        "NOT RUN",
    ]


def test_threads_wait_without_spinning_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.parity import wait_without_spinning

    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
