"""Ctrl-C at any moment: exit code 130, one line on stderr, nothing half-written; also during imports."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converters.sample import write_sample

NOTHING_LEFT = "error: interrupted; no half-written file is left"
AT_IMPORT = """
import sys, time

class Waits:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            print("here", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Waits())
"""
AT_CALL = """
import importlib, time

module, name = importlib.import_module({module!r}), {name!r}

def waits(*_, **__):
    print("here", flush=True)
    time.sleep(60)

setattr(module, name, waits)
"""
START = 'from cli.start import main\nprint("begun", flush=True)\nmain()\n'


LISTENS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""What a shell runs in the background ignores Ctrl-C, and so do all that it starts: here it counts."""


def interrupted(before: str, words: list[object], cwd: Path, wait: float = 0.0) -> tuple[int, list[str]]:
    """Exit code and lines of stderr of a command that got a Ctrl-C when `before` said that it is there."""
    command = [sys.executable, "-c", LISTENS + before + START, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd) as run:
        assert run.stdout is not None and run.stderr is not None
        for line in run.stdout:
            if line == ("here\n" if before else "begun\n"):
                break
        time.sleep(wait)
        run.send_signal(signal.SIGINT)
        told = [line.rstrip() for line in run.stderr if "judging by running" not in line]
    return run.returncode, told


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "source")


def to_mixformer(source: Path) -> list[object]:
    return ["llama", source, "--to", "mixformer", "-o", "out"]


@pytest.mark.parametrize("module", ["typer", "cli.main", "converters.family", "converters.conversion"])
def test_an_import_before_the_output_is_complete(module: str, source: Path, tmp_path: Path) -> None:
    assert interrupted(AT_IMPORT.format(module=module), to_mixformer(source), tmp_path) == (130, [NOTHING_LEFT])
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("module", ["golden.inputs", "torch", "golden.session"])
def test_judging_leaves_a_complete_output_and_says_how_to_judge_it(module: str, source: Path, tmp_path: Path) -> None:
    code, told = interrupted(AT_IMPORT.format(module=module), to_mixformer(source), tmp_path)
    judge = f"convert parity out --reference {source}"
    assert (code, told) == (130, [f"error: interrupted; out is complete and unverified; judge it: {judge}"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]
    assert json.loads((tmp_path / "out" / "conversion.json").read_text())["verdict"] == "UNVERIFIED"


def test_writing_leaves_nothing(source: Path, tmp_path: Path) -> None:
    wait = AT_CALL.format(module="converters.engine.shard_writing", name="count_nonfinite")
    assert interrupted(wait, to_mixformer(source), tmp_path) == (130, [NOTHING_LEFT])
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("module", ["golden.inputs", "torch"])
def test_judging_alone(module: str, source: Path, tmp_path: Path) -> None:
    words = ["parity", source, "--reference", source]
    assert interrupted(AT_IMPORT.format(module=module), words, tmp_path) == (130, [NOTHING_LEFT])


def test_a_name_with_spaces_can_be_pasted(source: Path, tmp_path: Path) -> None:
    words = [*to_mixformer(source)[:-1], "my out"]
    _, told = interrupted(AT_IMPORT.format(module="torch"), words, tmp_path)
    assert "convert parity 'my out' --reference" in told[0]


def test_a_run_without_ctrl_c_ends_as_ever(source: Path, tmp_path: Path) -> None:
    """The control: the line appears for an interrupt alone."""
    command = [sys.executable, "-c", START, *map(str, [*to_mixformer(source), "--no-parity"])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_fifty_random_moments(source: Path, tmp_path: Path) -> None:
    draw = random.Random(11)
    for k in range(50):
        words = [*to_mixformer(source)[:-1], f"out-{k}"]
        code, told = interrupted("", words, tmp_path, draw.uniform(0.05, 8.0))
        if code != 0:  # it had ended
            assert code == 130 and len(told) == 1 and told[0].startswith("error: interrupted; "), told
            assert (tmp_path / f"out-{k}").is_dir() == ("complete and unverified" in told[0])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
