"""A verdict tells each level when it is reached, its time, and the error by layer and by position."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from golden import LevelResult, compare
from golden.evidence.error_meter import ErrorMeter


@pytest.fixture(scope="module")
def candidate(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference with one weight of an MLP in its last layer changed."""
    folder = tmp_path_factory.mktemp("watching") / "candidate"
    shutil.copytree(reference, folder)
    tensors = load_file(folder / "model.safetensors")
    key = max(key for key in tensors if "mlp" in key)
    tensors[key][0, 0] += 1.0
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_levels_are_told_in_order_with_their_time(reference: Path) -> None:
    reached: list[LevelResult] = []
    said: list[tuple[str, int, int]] = []
    verdict = compare(
        reference,
        reference,
        levels=["L0", "L1", "L2", "L4"],
        reached=reached.append,
        progress=lambda *p: said.append(p),
    )
    assert [level.name for level in reached] == ["L0", "L1", "L2", "L4"]
    assert [verdict.level(level.name) for level in reached] == reached
    assert all(level.seconds > 0 for level in reached) and verdict.level("L3").seconds == 0
    assert sum(level.seconds for level in reached) <= verdict.seconds
    kinds = [what.partition(":")[0] for what, _, _ in said]
    assert kinds == sorted(
        kinds, key=["weights, bytes", "running the reference", "loading the candidate", "function", "behaviour"].index
    )
    for kind in ("weights, bytes", "function", "behaviour"):
        counts = [(done, total) for what, done, total in said if what.partition(":")[0] == kind]
        assert [done for done, _ in counts] == sorted({done for done, _ in counts})
        assert len({total for _, total in counts}) == 1 and counts[-1][0] < counts[-1][1]


def test_the_error_by_layer_begins_where_the_fault_is(reference: Path, candidate: Path) -> None:
    verdict = compare(candidate, reference, levels=["L2"])
    budget = verdict.stage_budget
    assert budget is not None and verdict.first_divergence
    over = [stage.name for stage in verdict.stages if stage.rms > budget]
    assert over[0] == verdict.first_divergence.partition(":")[0] and "mlp" in over[0]
    names = [stage.name for stage in verdict.stages]
    assert names[0] == "embeddings" and names[-1] == "logits" and 0 < names.index(over[0])


def test_a_sound_model_is_within_the_budget_in_every_layer(reference: Path) -> None:
    verdict = compare(reference, reference, levels=["L2"])
    assert len(verdict.stages) > 5
    assert all(stage.rms <= (verdict.stage_budget or 0.0) for stage in verdict.stages)


def test_the_error_by_position_shows_where_it_is() -> None:
    import torch

    truth = torch.randn(64, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = truth.clone()
    found[41] += 1.0
    meter = ErrorMeter()
    meter.add("one", found, truth)
    (reading,) = meter.readings(1.0)
    assert len(reading.positions) == 32 and len(reading.quartiles) == 4
    assert [k for k, rms in enumerate(reading.positions) if rms > 0] == [41 // 2]
    assert [k for k, rms in enumerate(reading.quartiles) if rms > 0] == [41 // 16]
    assert reading.rms == pytest.approx((1 / 64) ** 0.5) and reading.max == pytest.approx(1.0)
