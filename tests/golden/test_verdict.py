"""The verdict as a value: what follows from the levels, its JSON and its text."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from golden import LevelResult, Status, Verdict, compare, verdict_lines
from golden.verdict import conclude

PASS, FAIL, NOT_RUN, UNVERIFIED = Status.PASS, Status.FAIL, Status.NOT_RUN, Status.UNVERIFIED


@pytest.mark.parametrize(
    ("levels", "verdict"),
    [
        ([LevelResult("L0", PASS), LevelResult("L2", PASS)], PASS),
        ([LevelResult("L0", PASS), LevelResult("L2", FAIL)], FAIL),
        ([LevelResult("L2", FAIL), LevelResult("L3", UNVERIFIED)], FAIL),
        ([LevelResult("L2", PASS), LevelResult("L3", UNVERIFIED)], UNVERIFIED),
        ([LevelResult("L2", PASS), LevelResult("L1", NOT_RUN, required=False)], PASS),
        ([LevelResult("L2", PASS), LevelResult("L4", NOT_RUN)], UNVERIFIED),
        ([LevelResult("L2", NOT_RUN, required=False)], UNVERIFIED),
        ([], UNVERIFIED),
    ],
)
def test_one_failure_fails_and_only_passes_pass(levels: list[LevelResult], verdict: Status) -> None:
    assert conclude(levels) is verdict


def test_the_json_has_the_promised_keys_and_is_valid_json(reference: Path) -> None:
    written = json.loads(json.dumps(compare(reference, reference, levels=["L2"]).to_json(), allow_nan=False))
    assert {"verdict", "levels", "first_divergence", "hypothesis", "lossy_steps", "versions"} <= set(written)
    assert [level["name"] for level in written["levels"]] == ["L0", "L1", "L2", "L3", "L4"]
    assert all({"name", "status", "number", "budget"} <= set(level) for level in written["levels"])
    assert written["versions"]["torch"]


def test_numbers_that_are_not_finite_become_null() -> None:
    assert LevelResult("L2", FAIL, math.inf, 1e-10, measures={"max": math.nan}).to_json()["number"] is None


def test_levels_not_asked_for_are_listed_with_the_reason(reference: Path) -> None:
    level = compare(reference, reference, levels=["L2"]).level("L3")
    assert (level.status, level.required, level.detail) == (NOT_RUN, False, "not asked for")


def test_the_lines_begin_with_the_conclusion_and_name_every_level() -> None:
    failed = LevelResult("L2", FAIL, 0.25, 1e-10, "worst in 'random'")
    lines = verdict_lines(
        Verdict(FAIL, (LevelResult("L0", PASS, 0.0, 0.0), failed), "cand", hypothesis="k and v swapped")
    )
    assert lines[0] == "FAIL  cand"
    assert any("L2" in line and "0.25" in line and "1e-10" in line for line in lines)
    assert any("k and v swapped" in line for line in lines)


def test_importing_golden_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, golden, golden.verdict, golden.report; print({'torch', 'transformers'} & set(sys.modules))"
    heavy = "import sys, golden; golden.compare; print({'torch', 'transformers'} & set(sys.modules))"
    run = [subprocess.run([sys.executable, "-c", c], capture_output=True, text=True, check=True) for c in (code, heavy)]
    assert run[0].stdout.strip() == "set()"
    assert "torch" in run[1].stdout


def test_an_unknown_name_is_no_attribute() -> None:
    import golden

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        golden.nothing  # noqa: B018
