"""The README shows what a newcomer sees: its Python runs, its commands exist, its links lead somewhere."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs(tmp_path, monkeypatch):
    from converters.sample import write_sample

    write_sample(tmp_path / "my-llama")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"(?:`|\$ )convert ([a-z]+)", README))))
def test_every_command_of_the_readme_exists(verb):
    assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0


def test_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_table_of_families_is_what_the_families_say():
    from converters.support_matrix import markdown

    (shown,) = re.findall(r"<!-- families -->\n(.*?)\n<!-- /families -->", README, re.DOTALL)
    assert shown == markdown()
