"""A reference that is remembered runs once a prompt, and judges as one that is run again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from golden.evidence.live import open_reference
from golden.evidence.prompts import reference_prompts
from golden.faults.model_copy import Patient, discharge
from golden.faults.remembered import RememberedEvidence
from golden.levels.function import FLOAT64, judge_function
from golden.models.loading import load_model
from golden.models.running import ModelRunner
from golden.verdict import Status


@pytest.fixture(scope="module")
def live(reference: Path) -> RememberedEvidence:
    opened = open_reference(
        reference, lambda runner, used: reference_prompts(reference, runner.model.config, used), torch.float64
    )
    return RememberedEvidence(**{**vars(opened), "kept": {}})


def judged(folder: Path, evidence: object) -> object:
    return judge_function(ModelRunner(load_model(folder, torch.float64)), evidence, FLOAT64)


def test_each_prompt_is_run_once(
    live: RememberedEvidence, mixformer: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: Counter[tuple[int, ...]] = Counter()
    run = live.runner.logits
    monkeypatch.setattr(live.runner, "logits", lambda ids: (runs.update([tuple(ids)]), run(ids))[1])
    first, again = judged(mixformer, live), judged(mixformer, live)
    assert set(runs.values()) == {1} and len(runs) == len(live.prompts)
    assert first == again and first.status is Status.PASS


def test_a_fault_after_a_sound_model_is_found(
    live: RememberedEvidence, patient: Patient, reference: Path, tmp_path: Path
) -> None:
    assert judged(reference, live).status is Status.PASS
    patient.part("1.up").neg_()
    assert judged(discharge(patient, reference, tmp_path / "sick"), live).status is Status.FAIL


def test_the_floor_is_measured_once(live: RememberedEvidence) -> None:
    assert live.calibration("bfloat16") is live.calibration("bfloat16")
    assert live.calibration("bfloat16").dtype == "bfloat16" and live.calibration("float16").dtype == "float16"
