"""What a conversion was asked to leave out is no difference to its reference: it is judged like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from converters import convert
from converters.conversion import Request
from converters.plan.options import Options
from golden import Status, compare
from golden.errors import FolderError
from golden.faults.model_copy import Patient, discharge

LEVELS = ["L0", "L1", "L2"]


@pytest.fixture
def unusual(patient: Patient, reference: Path, tmp_path: Path) -> Path:
    """A LLaMA with a field that nobody knows and a rotary table that its formula does not give."""
    patient.config["foo_factor"] = 2.0
    patient.weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.full((10,), 0.3)
    return discharge(patient, reference, tmp_path / "unusual")


def test_waived_fields_and_dropped_buffers_are_no_difference(unusual: Path, tmp_path: Path) -> None:
    asked = Request(Options(waive=("foo_factor",), drop_buffers=True))
    ours = convert(unusual, output=tmp_path / "ours", request=asked).output
    there = compare(ours, unusual, levels=LEVELS)
    assert there.verdict is Status.PASS
    assert [level.status for level in there.levels[:3]] == [Status.PASS] * 3
    back = convert(ours, to="llama", output=tmp_path / "back").output
    assert json.loads((back / "config.json").read_text())["foo_factor"] == 2.0
    assert compare(back, ours, levels=LEVELS).verdict is Status.PASS


def test_what_was_not_asked_for_is_still_refused(unusual: Path, tmp_path: Path) -> None:
    asked = Request(Options(waive=("foo_factor",), drop_buffers=True))
    ours = convert(unusual, output=tmp_path / "ours", request=asked).output
    (ours / "conversion.json").unlink()
    with pytest.raises(FolderError, match="inv_freq"):
        compare(ours, unusual, levels=LEVELS)
