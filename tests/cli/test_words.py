"""Words are taken as they stand where they can be, and judged by typer where they cannot."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cli.main import app

LOADED = "import sys; from cli.main import app; app(sys.argv[1:], standalone_mode=False); print(*sys.modules)"


def loaded(words, where) -> set[str]:
    ran = subprocess.run([sys.executable, "-c", LOADED, *words], capture_output=True, text=True, cwd=where, check=True)
    return set(ran.stdout.splitlines()[-1].split())


def test_a_conversion_loads_neither_pydantic_nor_readers_of_other_formats(tmp_path):
    modules = loaded(["llama", "--to", "mixformer", "-o", "out", "--no-parity", "--no-hash"], tmp_path)
    assert (tmp_path / "out" / "config.json").is_file()
    assert not modules & {"pydantic", "zipfile", "pickle", "rich"}


def test_a_number_is_still_given_to_typer(tmp_path):
    assert "pydantic" in loaded(["llama", "--to", "mixformer", "-o", "out", "--no-parity", "--threads", "1"], tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["llama"], "--to"),
        (["plan", "llama", "--to", "mixformer"], "SOURCE"),
        (["llama", "--to", "mixformer", "--threads", "x"], "--threads"),
        (["llama", "--to", "mixformer", "--threads", "0"], "greater than or equal to 1"),
        (["inspect"], "PATH"),
        (["inspect", "a", "b"], "b"),
    ],
    ids=" ".join,
)
def test_words_that_are_missing_or_wrong_are_a_usage_error(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 2
    assert said.lower() in ran.output.lower()
