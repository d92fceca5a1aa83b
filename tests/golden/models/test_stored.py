"""Which tensors of the files are the values of a parameter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from golden.faults.model_copy import admit, discharge
from golden.models.loading import load_model
from golden.models.running import ModelRunner
from golden.models.streamed_loading import open_streamed

IDS = tuple(range(3, 60))


@pytest.mark.parametrize(
    ("ours", "key", "other"),
    [
        (False, "model.layers.0.input_layernorm.weight", "layers.0.input_layernorm.weight"),
        (True, "layers.2.mlp.fc1.weight", "layers.2.mlp.fc_in.weight"),
    ],
    ids=["theirs", "ours"],
)
def test_of_two_keys_for_one_parameter_the_one_is_read_that_loading_takes(
    ours: bool, key: str, other: str, reference: Path, mixformer: Path, tmp_path: Path
) -> None:
    source = mixformer if ours else reference
    patient = admit(source)
    patient.weights[other] = patient.weights[key] * 2 + 1
    folder = discharge(patient, source, tmp_path)
    streamed, whole = ModelRunner(open_streamed(folder, torch.float64)), ModelRunner(load_model(folder, torch.float64))
    assert torch.equal(streamed.logits(IDS), whole.logits(IDS))
