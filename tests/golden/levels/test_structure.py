"""L0 and L1 report what converters' alignment says; here the alignment is a stand-in with known contents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from converters.errors import ConversionError
from golden import Status, compare
from golden.errors import FolderError


@dataclass(frozen=True)
class Difference:
    reference_key: str
    candidate_key: str
    element: int | None
    reason: str


@dataclass(frozen=True)
class Alignment:
    mapped: bool = True
    problems: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    doubts: tuple[str, ...] = ()
    unplanned: int = 0

    def differing(self, progress: object = None) -> Iterator[Difference]:
        yield from self.differences

    def wider(self) -> Iterator[str]:
        return iter(())


@pytest.fixture
def align(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What ``align`` returns, under ``result``."""
    told: dict[str, object] = {"result": Alignment()}

    def stand_in(candidate: Path, reference: Path) -> object:
        if isinstance(told["result"], Exception):
            raise told["result"]
        return told["result"]

    monkeypatch.setattr("converters.alignment.align", stand_in)
    return told


def test_an_empty_alignment_passes_both_levels(align: dict[str, object], reference: Path) -> None:
    verdict = compare(reference, reference, levels=["L0", "L1"])
    assert [verdict.level(name).status for name in ("L0", "L1")] == [Status.PASS, Status.PASS]
    assert verdict.verdict is Status.PASS


def test_each_problem_of_structure_is_named(align: dict[str, object], reference: Path) -> None:
    align["result"] = Alignment(problems=("layers.9.x: nobody knows this key", "n_head: 3, expected 4"))
    level = compare(reference, reference, levels=["L0"]).level("L0")
    assert (level.status, level.number) == (Status.FAIL, 2.0)
    assert "layers.9.x" in level.detail and "n_head" in level.detail


def test_differing_tensors_are_counted_and_the_first_ones_named(align: dict[str, object], reference: Path) -> None:
    align["result"] = Alignment(differences=tuple(Difference(f"r{i}", f"c{i}", i, "bits differ") for i in range(9)))
    level = compare(reference, reference, levels=["L1"]).level("L1")
    assert (level.status, level.number, level.budget) == (Status.FAIL, 9.0, 0.0)
    assert "c0 at element 0 (r0): bits differ" in level.detail and "and 4 more" in level.detail


@pytest.mark.parametrize("mapped", [False, True])
def test_weights_that_no_mapping_reaches_are_counted_and_no_pass(
    mapped: bool, align: dict[str, object], reference: Path
) -> None:
    align["result"] = Alignment(mapped=mapped, problems=("no rule",), unplanned=21)
    verdict = compare(reference, reference, levels=["L1"])
    level = verdict.level("L1")
    assert (level.status, level.required, verdict.verdict) == (Status.UNVERIFIED, mapped, Status.UNVERIFIED)
    assert "21 tensors were not compared: no rule" in level.detail


def test_a_field_that_nobody_knows_is_no_pass_and_no_fail(align: dict[str, object], reference: Path) -> None:
    align["result"] = Alignment(doubts=("config: frobnicate is 1, of the reference it is None",))
    level = compare(reference, reference, levels=["L0"]).level("L0")
    assert level.status is Status.UNVERIFIED and "frobnicate" in level.detail


def test_files_that_converters_cannot_read_are_refused(align: dict[str, object], reference: Path) -> None:
    align["result"] = ConversionError("model.safetensors: truncated")
    with pytest.raises(FolderError, match="truncated"):
        compare(reference, reference, levels=["L0"])
