"""No single changed field of a candidate's config.json passes for what it is not, in either direction of any family."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from golden import compare
from golden.models.hot import recipe
from golden.models.hot_recipes import RECIPES

sys.path.insert(0, str(Path(__file__).parent))
from config_mutations import GONE, Bench, Change, chosen, pair, wrong

SLICE = 10
LEAST = 200


# What a change does is measured with transformers, which does not have the dialects of nGPT.
FAMILIES = sorted(name for name in RECIPES if hasattr(transformers, str(recipe(name).config_class)))


@pytest.fixture(scope="module", params=FAMILIES)
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(theirs, ours, back) of a family."""
    return pair(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("count", [SLICE // 2, pytest.param(None, marks=pytest.mark.slow)], ids=["slice", "all"])
def test_every_change_gets_the_verdict_of_what_it_can_change(
    folders: tuple[Path, Path, Path], count: int | None
) -> None:
    torch.set_num_threads(1)
    theirs, ours, back = folders
    for reference, candidate in ((theirs, ours), (ours, back)):
        bench = Bench(reference, candidate)
        assert len(chosen(bench.config, None, 0)) >= LEAST
        found = [text for change in chosen(bench.config, count, 7) if (text := wrong(bench, change))]
        assert found == []


def test_a_verdict_that_passed_everything_would_be_found_out(folders: tuple[Path, Path, Path]) -> None:
    """The control: of a judge that always says PASS, each kind of change shows."""
    bench = Bench(folders[0], folders[1])
    bench.verdict = lambda folder: ("PASS", "")  # type: ignore[method-assign]
    changes = [Change(("vocab_size",), 7), Change(("frobnicate",), 1), Change(("n_layer",), GONE)]
    assert all(wrong(bench, change) for change in changes)


def test_with_l2_alone_the_verdict_says_that_nothing_else_was_judged(folders: tuple[Path, Path, Path]) -> None:
    bench = Bench(folders[0], folders[1])
    with bench.changed(Change(("frobnicate",), 1)) as folder:
        assert compare(folder, folders[0], levels=["L2"]).line == "PASS (L2 only)"


@pytest.mark.slow
def test_the_command_says_the_same(tmp_path: Path) -> None:
    """Twenty changes by the command line: exit code 4, 5 or 3, and 0 for what is nothing."""
    theirs, ours, _ = pair("llama", tmp_path)
    bench = Bench(theirs, ours)
    for change in chosen(bench.config, 20, 11):
        with bench.changed(change) as folder:
            expected = bench.verdict(folder)[0]
            words = ["parity", folder, "--reference", theirs, "--levels", "L0,L2", "--json"]
            done = subprocess.run(
                [sys.executable, "-c", "from cli.start import main; main()", *map(str, words)],
                capture_output=True,
                text=True,
            )
        if expected.startswith("error"):
            assert done.returncode == int(expected.split()[1]), change
        else:
            assert done.returncode == {"PASS": 0, "FAIL": 4}.get(expected, 5), change
            assert json.loads(done.stdout)["verdict"] == expected
