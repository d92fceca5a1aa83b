"""What is not there is a matter of usage, exit code 2, in every command that reads."""

import pytest
from typer.testing import CliRunner

from cli.main import app

WORDS = [
    ["parity", "nope", "--reference", "llama-sample"],
    ["parity", "llama-sample", "--reference", "nope"],
    ["parity", "llama-sample", "--golden", "nope"],
    ["golden", "record", "nope", "-o", "z.safetensors"],
    ["golden", "show", "nope"],
    ["llama", "nope", "--to", "mixformer"],
    ["plan", "llama", "nope", "--to", "mixformer"],
    ["diff", "nope", "llama-sample"],
    ["inspect", "nope"],
]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_a_path_that_is_not_there_is_exit_code_2(words, tmp_path, monkeypatch):
    from converters.sample import write_sample

    monkeypatch.chdir(tmp_path)
    write_sample(tmp_path / "llama-sample")
    result = CliRunner().invoke(app, words)
    code = result.exit_code if isinstance(result.exception, SystemExit) else getattr(result.exception, "exit_code", 1)
    assert code == 2
    assert "nope" in result.output + str(result.exception)


def test_a_folder_is_no_golden_file(tmp_path):
    result = CliRunner().invoke(app, ["golden", "show", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not a file" in result.output


@pytest.mark.parametrize("wrong", [["--report", "verdict.pdf"], ["--golden", "a-folder"]], ids=" ".join)
def test_what_costs_nothing_is_checked_before_a_model_is_looked_for(wrong, tmp_path, monkeypatch):
    """A model may have to be fetched."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-folder").mkdir()
    result = CliRunner().invoke(app, ["parity", "nope", "--reference", "nope", *wrong])
    assert wrong[1] in result.output + str(result.exception)
    assert "nope" not in result.output + str(result.exception)
