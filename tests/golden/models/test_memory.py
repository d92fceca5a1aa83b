"""What fits in memory decides how models are run; what does not fit is UNVERIFIED with figures, never a PASS."""

from __future__ import annotations

from pathlib import Path

import pytest

from golden import Status, case, compare
from golden.models import memory
from golden.models.memory import available_bytes, plan_run

MILLION = 10**6


@pytest.mark.parametrize(
    ("have", "itemsize", "together"),
    [(22 * MILLION, 8, True), (12 * MILLION, 8, False), (7 * MILLION, 4, False)],
)
def test_the_widest_plan_that_fits_is_taken(have: int, itemsize: int, together: bool) -> None:
    plan = plan_run(MILLION, MILLION, 1000, have)
    assert (plan.itemsize, plan.together) == (itemsize, together)
    assert plan.need <= plan.have


def test_a_dtype_that_was_asked_for_is_not_replaced() -> None:
    plan = plan_run(MILLION, MILLION, 1000, 5 * MILLION, narrowest=8)
    assert plan.itemsize == 8 and plan.need > plan.have


def test_this_machine_has_some_memory_and_not_too_much() -> None:
    assert 2**26 < available_bytes() < 2**50


def test_a_container_limit_is_respected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in (("memory.max", "1000"), ("memory.current", "700"), ("memory.stat", "inactive_file 100\nx 1")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert available_bytes() == 400


def test_models_one_after_the_other_give_the_same_reading(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = compare(reference, reference, levels=["L2", "L3", "L4"], attn="sdpa")
    monkeypatch.setattr(case, "plan_run", lambda *a, **k: memory.RunPlan(8, False, 1, 2))
    apart = compare(reference, reference, levels=["L2", "L3", "L4"], attn="sdpa")
    assert apart.verdict is Status.PASS
    assert [level.number for level in apart.levels] == [level.number for level in together.levels]


def test_float32_is_judged_against_the_reference_own_floor(reference: Path) -> None:
    level = compare(reference, reference, levels=["L2"], dtype="float32", attn="sdpa").level("L2")
    assert level.status is Status.PASS
    assert level.budget is not None and level.budget >= 1e-5
    assert level.number is not None and 0 < level.number < 1e-5


def test_every_level_can_run_in_float32(reference: Path) -> None:
    assert compare(reference, reference, levels=["L2", "L3", "L4"], dtype="float32").verdict is Status.PASS


def test_float32_still_sees_a_wrong_eps(reference: Path, tmp_path: Path) -> None:
    from golden.faults.model_copy import admit, discharge

    patient = admit(reference)
    patient.turn("eps", 1e-6)
    wrong = discharge(patient, reference, tmp_path)
    assert compare(wrong, reference, levels=["L2"], dtype="float32").verdict is Status.FAIL


def test_what_does_not_fit_is_unverified_with_need_and_have(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "available_bytes", lambda: 1000)
    verdict = compare(reference, reference, levels=["L2"])
    assert verdict.verdict is Status.UNVERIFIED
    assert "GiB of memory" in verdict.level("L2").detail
