"""Buffers that old exporters stored do not stand in the way of a verdict; any other tensor does."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from golden.models.hot import make_hot
from golden.models.loading import load_model


@pytest.mark.parametrize(
    ("key", "problems"),
    [("transformer.h.1.attn.masked_bias", 0), ("transformer.h.1.attn.bias", 0), ("transformer.h.1.attn.scale", 1)],
)
def test_what_a_formula_gives_is_no_problem(key, problems, tmp_path):
    folder = make_hot("gpt2", tmp_path / "gpt2")
    tensors = load_file(folder / "model.safetensors") | {key: torch.tensor(-1e4)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert len(load_model(folder, torch.float64).problems) == problems
