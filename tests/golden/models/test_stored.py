"""Which tensors of the files are the values of a parameter."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from converters.paging import paged
from golden import Verdict
from golden.errors import FolderError
from golden.faults.model_copy import admit, discharge
from golden.models.loading import load_model
from golden.models.running import ModelRunner
from golden.models.streamed_loading import open_streamed
from golden.models.streaming.stored import read_tensor

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


class Filled:
    """Stand-ins that hold everything already."""

    def need(self, name: str, begin: int, end: int) -> None: ...

    def report(self) -> dict[str, Any]:
        return {}


FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2, torch.float8_e4m3fn]
OTHERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]


@pytest.mark.parametrize("dtype", [*FLOATS, *OTHERS])
def test_a_stand_in_gives_what_a_file_gives(dtype: torch.dtype, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(1, 7).reshape(2, 3).to(dtype)}, file)
    expected = read_tensor(file, "a")
    with paged(tmp_path, Filled()):
        found = read_tensor(file, "a")
    assert found.dtype is expected.dtype is dtype and torch.equal(found.double(), expected.double())


@pytest.mark.parametrize("layer", [2, 5], ids=["a layer", "the head"])
@pytest.mark.parametrize("left", [0, 1000], ids=["gone", "truncated"])
def test_a_file_that_is_lost_on_the_way_is_named(
    layer: int, left: int, judge: Callable[..., Verdict], mixformer: Path, reference: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(mixformer, tmp_path / "ours"))
    file = folder / "model.safetensors"

    def lose(what: str, done: int, total: int) -> None:
        if done == layer and what == "function: layer by layer":
            stored = file.read_bytes()
            file.unlink()
            if left:
                file.write_bytes(stored[:-left])

    with pytest.raises(FolderError, match=r"model\.safetensors: it can no longer be read"):
        judge(folder, reference, levels=["L2"], progress=lose)
