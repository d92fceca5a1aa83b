"""The self-test: every family's faults are caught, correct variants pass, and the self-test itself can fail."""

from __future__ import annotations

from functools import cache

import pytest

from converters.errors import UsageError
from golden import self_test, trial_lines
from golden.faults.catalogue import catalogue
from golden.faults.self_testing import SelfTest, Trial, known_families
from golden.levels.function import Budget

QUICK = {"llama", "gpt2", "codegen"}
FAMILIES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in known_families()[0]]


@cache
def tried(family: str) -> SelfTest:
    """The self-test of one family, in this process; never made twice."""
    return self_test([family])


@pytest.mark.parametrize("family", FAMILIES)
def test_all_faults_are_caught_and_no_sound_variant_alarms(family: str) -> None:
    result = tried(family)
    assert result.missed == () and result.false_alarms == ()
    assert sum(trial.kind != "healthy" for trial in result.trials) >= 25
    assert sum(trial.kind == "healthy" for trial in result.trials) >= 10
    code = {"code"} if family.startswith("ngpt") else set()  # other blocks have no formula that could be another
    assert {trial.kind for trial in result.trials} == {"weight", "mapping", "config", "kernel", "healthy"} | code


def test_in_two_processes_the_trials_are_the_same() -> None:
    told: list[tuple[str, int, int]] = []
    result = self_test(["llama", "gpt2"], jobs=2, progress=lambda *words: told.append(words))
    assert result.trials == tried("llama").trials + tried("gpt2").trials  # to the last bit of each number
    assert told[0] == ("self-test: llama", 0, 2) and [done for _, done, _ in told] == [0, 1]


def test_a_family_that_does_not_exist_is_told_from_another_process() -> None:
    with pytest.raises(UsageError, match="there is no family 'lama'"):
        self_test(["lama"], seeds=2, jobs=2)


def test_a_compact_golden_catches_at_least_95_percent() -> None:
    result = self_test(["llama"], golden_form="compact")
    faults = [trial for trial in result.trials if trial.kind != "healthy"]
    assert len(result.missed) <= 0.05 * len(faults)
    assert result.false_alarms == ()


def test_a_blind_verdict_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("golden.faults.self_testing.FLOAT64", Budget(rms=1e9, max=None))
    monkeypatch.setattr("golden.faults.self_testing.healthy_variants", lambda: iter(()))
    monkeypatch.setattr("golden.faults.self_testing.kernel_faults", lambda: iter(()))
    monkeypatch.setattr("golden.faults.self_testing.catalogue", lambda patient: catalogue(patient)[::6])
    result = self_test(["llama"])
    assert not result.passed
    assert result.missed == result.trials


def test_a_verdict_that_fails_the_sound_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("golden.faults.healthy.FLOAT64", Budget(rms=0.0, max=0.0))
    monkeypatch.setattr("golden.faults.self_testing.catalogue", lambda patient: [])
    result = self_test(["llama"])
    assert not result.passed
    assert result.false_alarms


def test_the_table_has_a_row_per_trial_and_says_what_was_missed() -> None:
    missed = Trial("llama", "norm eps a tenth", "config", 0, 1e-12, False)
    alarm = Trial("llama", "as converted", "healthy", 0, 1.0, False)
    lines = trial_lines(SelfTest((missed, alarm), ("mamba",)))
    assert lines[1].endswith("MISSED") and lines[2].endswith("FALSE ALARM")
    assert lines[3] == "FAIL: 0 of 1 faults caught, 1 false alarm in 1 correct variant"
    assert lines[4].endswith("mamba")


def test_nothing_tried_is_not_passed() -> None:
    assert not SelfTest(()).passed


def test_the_json_counts_what_the_trials_say() -> None:
    trials = (
        Trial("llama", "a", "weight", 0, 0.5, True),
        Trial("llama", "b", "config", 0, float("inf"), False),
        Trial("llama", "c", "healthy", 0, 1e-15, True),
    )
    written = SelfTest(trials).to_json()
    assert (written["faults"], written["caught"], written["healthy"], written["false_alarms"]) == (2, 1, 1, 0)
    assert written["trials"][1]["number"] is None
    assert written["passed"] is False


@pytest.mark.slow
@pytest.mark.parametrize("family", known_families()[0])
def test_twenty_seeds_are_all_judged_right(family: str) -> None:
    assert self_test([family], seeds=20).passed


def test_a_family_without_a_hot_model_is_named_as_untried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("golden.faults.self_testing.has_recipe", lambda family: False)
    result = self_test()
    assert "llama" in result.untried and not result.passed
