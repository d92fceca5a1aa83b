"""The list of what is held is that of transformers, each type once and with one line."""

import json
import re
from pathlib import Path

import pytest
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from typer.testing import CliRunner

from cli.main import app
from converters.coverage import REASONS, counts, coverage, markdown, reasons

ROOT = Path(__file__).parents[2]


def test_every_causal_type_of_transformers_is_listed_and_no_other():
    if f"transformers=={transformers.__version__}\n" not in (ROOT / "constraints.txt").read_text():
        pytest.skip(f"the list is not that of transformers {transformers.__version__}")
    assert {one.model_type for one in coverage()} == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def test_a_type_has_a_family_or_one_reason():
    named = [name for _, _, names in REASONS for name in names.split()]
    assert len(named) == len(set(named))
    assert all(bool(one.family) != bool(one.reason) for one in coverage())
    held = {one.model_type for one in coverage() if one.family}
    assert not held & set(reasons()), "a family holds these now: take their reasons out"


def test_the_numbers_add_up():
    assert sum(counts().values()) == len(coverage())
    assert counts()["held"] == sum(bool(one.family) for one in coverage())


def test_the_document_is_what_is_held_today():
    text = (ROOT / "docs" / "coverage.md").read_text()
    (found,) = re.findall(r"<!-- coverage -->\n(.*?)\n<!-- /coverage -->", text, re.DOTALL)
    assert found == markdown(), "run scripts/coverage_table.py"


def test_the_command_prints_it():
    result = CliRunner().invoke(app, ["families", "--coverage", "--json"])
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said["counts"] == counts()
    assert {one["model_type"]: one["family"] for one in said["types"]}["gpt_neox"] == "gptneox"
    plain = CliRunner().invoke(app, ["families", "--coverage"]).stdout
    assert "mamba2" in plain and "a state space model" in plain
