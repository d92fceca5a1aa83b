"""Causal masks and the number of hidden scores, as exporters of GPT-2, GPT-J and CodeGen wrote them in each layer."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from converters import convert
from converters.alignment import equal_folders
from converters.conversion import Request
from converters.errors import NotInvertible
from converters.plan.options import Options
from converters.sample import write_sample

MASKS = {"gpt2": "bias", "gptj": "bias", "codegen": "causal_mask"}


def with_buffers(family, place, value, dtype, kind=torch.bool):
    source = write_sample(place / "source", family)
    tensors = load_file(source / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    size = config["n_positions"]
    for i in range(config["n_layer"]):
        tensors[f"transformer.h.{i}.attn.{MASKS[family]}"] = (
            torch.ones(size, size).tril().view(1, 1, size, size).to(kind)
        )
        tensors[f"transformer.h.{i}.attn.masked_bias"] = torch.tensor(value).to(dtype)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    return source


CASES = [
    (-1e4, torch.float32),
    (-1e9, torch.float32),
    (-1e4, torch.float16),
    (-1e9, torch.float16),  # -inf there
    (-1e9, torch.bfloat16),
    (-float("inf"), torch.float32),
]


@pytest.mark.parametrize("family", MASKS)
@pytest.mark.parametrize(("value", "dtype"), CASES, ids=str)
def test_the_buffers_of_every_exporter_return(value, dtype, family, tmp_path):
    source = with_buffers(family, tmp_path, value, dtype)
    ours = convert(source, output=tmp_path / "ours").output
    assert not any("masked" in key for key in load_file(ours / "model.safetensors"))
    back = convert(ours, to=family, output=tmp_path / "back").output
    assert equal_folders(source, back) == []
    assert load_file(back / "model.safetensors")["transformer.h.1.attn.masked_bias"].dtype is dtype


@pytest.mark.parametrize("family", MASKS)
def test_buffers_can_be_left_out(family, tmp_path):
    source = with_buffers(family, tmp_path, -5.0, torch.float32)
    ours = convert(source, output=tmp_path / "ours", request=Request(Options(drop_buffers=True))).output
    back = load_file(convert(ours, to=family, output=tmp_path / "back").output / "model.safetensors")
    assert not any(key.endswith(("masked_bias", f".attn.{MASKS[family]}")) for key in back)


@pytest.mark.parametrize(
    ("value", "nearest"), [(-5.0, "-10000"), (-2e4, "-10000"), (-9e8, "-1e\\+09"), (1.0, "-10000")]
)
def test_another_number_is_refused_with_the_nearest_that_is_known(value, nearest, tmp_path):
    source = with_buffers("gpt2", tmp_path, value, torch.float32)
    with pytest.raises(NotInvertible, match=f"masked_bias.*its formula gives {nearest};.*--drop-buffers"):
        convert(source, output=tmp_path / "ours")


def test_no_number_at_all_is_refused(tmp_path):
    source = with_buffers("gpt2", tmp_path, float("nan"), torch.float32)
    with pytest.raises(NotInvertible, match="masked_bias"):
        convert(source, output=tmp_path / "ours")


def test_a_mask_of_another_shape_is_refused(tmp_path):
    source = with_buffers("codegen", tmp_path, -1e9, torch.float32)
    tensors = load_file(source / "model.safetensors")
    tensors["transformer.h.2.attn.masked_bias"] = torch.full((3,), -1e9)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NotInvertible, match=r"h\.2\.attn\.masked_bias has shape \[3\]"):
        convert(source, output=tmp_path / "ours")
