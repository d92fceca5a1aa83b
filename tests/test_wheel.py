"""The wheel, installed into an empty environment: it holds all four packages, and the first conversion works there."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("converters", "mixformer", "golden", "cli")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
ALONE = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
IMPORT = """
import mixformer, transformers
print(mixformer.__file__)
print(transformers.AutoConfig.for_model("mixformer-sequential").architecture["block_cls"])
"""

pytestmark = pytest.mark.slow


def run(*words: object, cwd: Path) -> str:
    """What a command prints; the test fails with all of it if the command does."""
    done = subprocess.run([*map(str, words)], cwd=cwd, env=ALONE, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel as pip builds it."""
    place = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", "--quiet", "--no-deps", "--wheel-dir", place, ROOT, cwd=place)
    (built,) = place.glob("mixformer-*.whl")
    return built


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory) -> Path:
    """The folder of the commands of an environment that has the wheel and what it needs, and nothing else."""
    place = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", place / "venv", cwd=place)
    target = ["--python", place / "venv" / "bin" / "python", "install", "--quiet"]
    run(*PIP, *target, "--constraint", ROOT / "constraints.txt", wheel, cwd=place)
    return place / "venv" / "bin"


def test_it_holds_every_file_of_the_packages_and_no_tests(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    assert held == {str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc"}


def test_the_command_line_starts(commands, tmp_path):
    assert "parity" in run(commands / "mixformer", "--help", cwd=tmp_path)


def test_the_demo_passes(commands, tmp_path):
    said = run("sh", ROOT / "scripts" / "demo.sh", commands, cwd=tmp_path)
    assert said.count("\nPASS  ") == 2 and said.count("the texts are equal\n") == 1
    assert said.endswith("llama-sample and llama-sample-back are equal\n")


def test_mixformer_is_imported_from_the_wheel(commands, tmp_path):
    place, block = run(commands / "python", "-c", IMPORT, cwd=tmp_path).split()
    assert Path(place).is_relative_to(commands.parent)
    assert block
