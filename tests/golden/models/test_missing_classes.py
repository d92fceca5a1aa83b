"""A family whose class the installed transformers lacks: named, left out of the self-test, skipped in tests."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from converters.family import Hot
from golden import compare, self_test, trial_lines
from golden.errors import MissingClassError
from golden.faults.self_testing import Trial
from golden.models import hot
from golden.models.hot_recipes import RECIPES

ROOT = Path(__file__).parents[3]
SENTENCE = f"transformers {transformers.__version__} has no NoSuchConfig"

MAKES_ONE = """
import pytest
from golden.models import hot
from golden.references.own_references import config_class

@pytest.fixture
def made():
    return config_class("NoSuchConfig")

def test_with_a_fixture(made):
    assert False

def test_without():
    config_class("NoSuchConfig")
"""


@pytest.fixture
def without_gpt2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot, "RECIPES", {**RECIPES, "gpt2": Hot("NoSuchConfig", {})})


def test_the_transformers_of_the_constraints_lacks_no_class() -> None:
    pinned = re.search(r"^transformers==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    if transformers.__version__ != pinned[1]:
        pytest.skip(f"transformers {transformers.__version__} is not that of constraints.txt, {pinned[1]}")
    assert [sentence for family in hot.own_functions() if (sentence := hot.lacking(family))] == []


@pytest.mark.usefixtures("without_gpt2")
def test_the_class_is_named(tmp_path: Path) -> None:
    assert (hot.lacking("gpt2"), hot.lacking("llama")) == (SENTENCE, "")
    with pytest.raises(MissingClassError, match=re.escape(SENTENCE)):
        hot.make_hot("gpt2", tmp_path)


@pytest.mark.usefixtures("without_gpt2")
def test_the_self_test_leaves_it_out_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def trials(family: str, *_: object) -> list[Trial]:
        return [Trial(family, "a fault", "weight", 0, 0.5, True)]

    monkeypatch.setattr("golden.faults.self_testing._trials", trials)
    result = self_test()
    tried = {trial.family for trial in result.trials}
    assert "llama" in tried and "gpt2" not in tried
    assert f"gpt2: {SENTENCE}" in result.lacking and result.to_json()["lacking"] == list(result.lacking)
    assert f"not tried: gpt2: {SENTENCE}" in trial_lines(result)
    assert self_test(["llama"]).lacking == ()


@pytest.mark.parametrize(("options", "outcomes"), [([], "2 skipped"), (["--family", "gpt2"], "1 failed, 1 error")])
def test_tests_are_skipped_by_name_unless_the_family_was_asked_for(
    options: list[str], outcomes: str, tmp_path: Path
) -> None:
    (tmp_path / "test_one.py").write_text(MAKES_ONE)
    command = [sys.executable, "-m", "pytest", "-rs", "-c", "/dev/null", "--rootdir", str(tmp_path)]
    plugin = ["-p", "golden.conformance.plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *plugin, *options, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert outcomes in done.stdout, done.stdout
    assert SENTENCE in done.stdout


def test_judging_a_type_that_transformers_does_not_have_is_unverified(reference: Path, tmp_path: Path) -> None:
    unknown = tmp_path / "unknown"
    unknown.mkdir()
    for path in reference.iterdir():
        (unknown / path.name).write_bytes(path.read_bytes())
    config = json.loads((unknown / "config.json").read_text()) | {"model_type": "llama-of-tomorrow"}
    (unknown / "config.json").write_text(json.dumps(config))
    wanted = "has no class for the model_type 'llama-of-tomorrow' of its config.json"
    with pytest.raises(MissingClassError, match=wanted) as error:
        compare(reference, unknown, levels=["L2"])
    assert error.value.exit_code == 5
