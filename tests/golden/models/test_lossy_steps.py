"""A recorded cast is judged by its own rule; one that is not recorded is a fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from golden import Status, compare, record
from golden.errors import FolderError
from golden.faults.model_copy import admit, discharge


@pytest.fixture(params=["bfloat16", "float16"])
def cast(request: pytest.FixtureRequest, mixformer: Path, tmp_path: Path) -> Path:
    """The candidate with its weights stored in 16 bits, as a conversion with a dtype would leave it."""
    patient = admit(mixformer)
    patient.weights = {key: tensor.to(getattr(torch, request.param)) for key, tensor in patient.weights.items()}
    patient.config["dtype"] = request.param
    folder = discharge(patient, mixformer, tmp_path / "cast")
    step = {"step": "cast", "dtype": request.param}
    (folder / "conversion.json").write_text(json.dumps({"lossy_steps": [step]}))
    return folder


def test_a_recorded_cast_passes_and_its_distance_is_told(cast: Path, reference: Path) -> None:
    verdict = compare(cast, reference, levels=["L2", "L3", "L4"])
    assert verdict.verdict is Status.PASS
    assert verdict.lossy_steps[0]["step"] == "cast"
    distance = verdict.level("L2").measures["distance"]
    assert isinstance(distance, float) and 1e-4 < distance < 1e-1
    assert "after the recorded cast" in verdict.level("L2").detail


def test_a_cast_that_is_not_recorded_fails(cast: Path, reference: Path) -> None:
    (cast / "conversion.json").unlink()
    assert compare(cast, reference, levels=["L2"]).verdict is Status.FAIL


def test_a_fault_beside_a_recorded_cast_still_fails(cast: Path, reference: Path, tmp_path: Path) -> None:
    patient = admit(cast)
    patient.part("1.gate")[3, 4] *= -1
    faulty = discharge(patient, cast, tmp_path / "faulty")
    (faulty / "conversion.json").write_bytes((cast / "conversion.json").read_bytes())
    assert compare(faulty, reference, levels=["L2"]).verdict is Status.FAIL


def test_a_cast_cannot_be_judged_from_a_golden_alone(cast: Path, reference: Path, tmp_path: Path) -> None:
    golden = record(reference, tmp_path / "golden", dtypes=())
    verdict = compare(cast, golden=golden, levels=["L2"])
    assert verdict.verdict is Status.UNVERIFIED
    assert "give the reference" in verdict.level("L2").detail


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "[" * 5000,
        '{"lossy_steps": 3}',
        '{"lossy_steps": ["x"]}',
        '{"lossy_steps": [{"step": "cast", "dtype": ["float16"]}]}',
        '{"lossy_steps": [{"step": "cast", "dtype": "float16", "max_error": {"a": "b"}}]}',
        '{"files": {"/dev/zero": null}}',
        '{"files": {"../config.json": null}}',
    ],
)
def test_a_conversion_record_that_no_conversion_writes_is_refused(
    content: str, mixformer: Path, reference: Path, tmp_path: Path
) -> None:
    folder = discharge(admit(mixformer), mixformer, tmp_path)
    (folder / "conversion.json").write_text(content)
    with pytest.raises(FolderError, match=r"conversion\.json"):
        compare(folder, reference, levels=["L2"])


@pytest.mark.parametrize("content", ["{}", '{"lossy_steps": null}', '{"lossy_steps": [], "files": {}}'])
def test_a_conversion_record_that_says_nothing_changes_nothing(
    content: str, mixformer: Path, reference: Path, tmp_path: Path
) -> None:
    folder = discharge(admit(mixformer), mixformer, tmp_path)
    (folder / "conversion.json").write_text(content)
    verdict = compare(folder, reference, levels=["L2"])
    assert verdict.verdict is Status.PASS and verdict.lossy_steps == ()
