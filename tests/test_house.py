"""The house rules that a machine can hold: imports go one way, and converting loads neither torch nor transformers."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "converters": set(),
    "mixformer": set(),
    "golden": {"converters", "mixformer"},
    "cli": {"converters", "golden"},
}
HEAVY = {"torch", "transformers", "numpy"}


def imported(file: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_one_way(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        assert imported(file) & set(ALLOWED) <= ALLOWED[package] | {package}, file


def test_the_import_walk_would_notice(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from golden import compare\n")
    assert imported(file) == {"golden"}


def loaded_after(code: str, where: Path) -> set[str]:
    """Heavy modules that a fresh interpreter has loaded after some code."""
    tail = f"import sys, json; print(json.dumps(sorted({HEAVY} & set(sys.modules))))"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tail}"], capture_output=True, text=True, cwd=where, check=True
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


RUN = """
import sys
from cli.main import app
def run(*words):
    try:
        app(list(words), standalone_mode=False)
    except SystemExit:
        pass
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["llama", "--help"],
        ["families"],
        ["llama", "--to", "mixformer", "--no-parity", "--no-hash"],
        ["mixformer", "--to", "llama", "--no-parity", "--no-hash"],
    ],
    ids=" ".join,
)
def test_help_and_bare_conversions_load_nothing_heavy(words, tmp_path):
    assert loaded_after(f"{RUN}\nrun(*{words})", tmp_path) == set()


def test_a_hashed_conversion_loads_numpy_alone(tmp_path):
    assert loaded_after(f"{RUN}\nrun('llama', '--to', 'mixformer', '--no-parity')", tmp_path) == {"numpy"}


def test_plan_inspect_and_diff_load_nothing_heavy(tmp_path):
    steps = [
        ["llama", "--to", "mixformer", "--no-parity", "--no-hash"],
        ["plan", "llama", "llama-sample", "--to", "mixformer"],
        ["inspect", "llama-sample-mixformer"],
        ["diff", "llama-sample", "llama-sample-mixformer"],
    ]
    code = RUN + "".join(f"\nrun(*{words})" for words in steps)
    assert loaded_after(code, tmp_path) == set()
    assert (tmp_path / "llama-sample-mixformer" / "model.safetensors").is_file()


def test_the_check_for_heavy_modules_would_notice(tmp_path):
    assert loaded_after("import numpy", tmp_path) == {"numpy"}


def test_family_files_hold_facts_and_little_else():
    files = list((ROOT / "converters" / "families").glob("*.py"))
    assert len(files) > 10
    assert all(len(file.read_text().splitlines()) <= 120 for file in files)
