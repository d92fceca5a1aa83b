"""A reader that ends early, and streams that are closed: the exit code says what it always says."""

import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from converters.sample import write_sample

CONVERT = [sys.executable, "-c", "from cli.start import main; main()"]
CASES = {
    "help": (["plan", "--help"], 0),
    "the version": (["--version"], 0),
    "a plan": (["plan", "one", "--to", "mixformer", "--all"], 0),
    "a result as JSON": (["families", "--json"], 0),
    "a difference": (["diff", "one", "other"], 4),
    "a usage error as JSON": (["plan", "one", "--to", "nowhere", "--json"], 2),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("streams")
    write_sample(place / "one")
    other = write_sample(place / "other") / "model.safetensors"
    weights = load_file(other)
    weights["model.norm.weight"] += 1
    save_file(weights, other, metadata={"format": "pt"})
    return place


def run(words, place, buffered=True, **streams):
    said = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment = said if buffered else {**said, "PYTHONUNBUFFERED": "1"}
    return subprocess.run([*CONVERT, *words], cwd=place, env=environment, check=False, **streams)


@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("case", CASES)
def test_a_pipe_that_nobody_reads_changes_no_exit_code(case, buffered, place):
    words, code = CASES[case]
    reader, writer = os.pipe()
    os.close(reader)
    done = run(words, place, buffered, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == code
    assert "Broken pipe" not in done.stderr and "unexpected" not in done.stderr


@pytest.mark.parametrize(("words", "code"), [(["inspect", "one"], 0), (["diff", "one", "other"], 4), (["diff"], 2)])
def test_closed_streams_are_no_fault_of_the_program(words, code, place):
    command = 'exec "$@" >&- 2>&-'
    done = subprocess.run(["sh", "-c", command, "sh", *CONVERT, *words], cwd=place, check=False)
    assert done.returncode == code
