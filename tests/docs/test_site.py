"""The site of the docs: its pages of reference name every command and public name, and it builds without a warning."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

from cli.main import app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "scripts" / "reference_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_and_option_has_a_line(pages):
    page = pages.command_page()
    sections = dict(re.findall(r"^## (convert [^\n]+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert {"convert FAMILY", "convert plan", "convert golden record", "convert push"} <= set(sections)
    assert "`--tokens`" in sections["convert golden record"] and "`--crop-vocab`" in sections["convert FAMILY"]
    root = typer.main.get_command(app)
    for verb, command in root.commands.items():
        if not command.hidden and not getattr(command, "commands", None) and f"convert {verb}" in sections:
            options = [word for param in command.params for word in param.opts if word.startswith("--")]
            assert [word for word in options if f"`{word}`" not in sections[f"convert {verb}"]] == [], verb


@pytest.mark.parametrize("package", ["converters", "golden", "mixformer"])
def test_every_public_name_has_a_section(package, pages):
    page = pages.python_page()
    names = [name for name in import_module(package).__all__ if not name.startswith("__")]
    assert names and [name for name in names if f"\n### {package}.{name}\n" not in page] == []


def test_the_site_builds_strictly(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "convert golden record" in (tmp_path / "site" / "reference" / "command.html").read_text()
