"""BLOOM and MPT make slopes inside the forward pass: in float64 they have to keep their float32 values."""

import pytest
import torch

from converters import convert
from golden import compare
from golden.models import precision, running
from golden.models.hot import make_hot
from golden.models.loading import load_model
from golden.models.running import ModelRunner

CASES = {"bloom": {"n_head": 12}, "mpt": {"n_heads": 6, "attn_config": {"softmax_scale": 0.3}}}


@pytest.mark.parametrize("family", CASES)
def test_the_float64_reference_is_the_float32_function(family, tmp_path):
    folder = make_hot(family, tmp_path / "hot", **CASES[family])
    ids = list(range(90))
    narrow = ModelRunner(load_model(folder, torch.float32)).logits(ids)
    exact = ModelRunner(load_model(folder, torch.float64)).logits(ids)
    assert exact.dtype is torch.float64
    assert torch.allclose(narrow.double(), exact, atol=2e-5)
    again = ModelRunner(load_model(folder, torch.float32)).logits(ids)
    assert torch.equal(narrow, again), "a float64 run left something behind"


def test_without_it_the_slopes_of_bloom_would_be_rounded_in_float64(tmp_path, monkeypatch):
    """The control: what the verdict would say."""
    folder = make_hot("bloom", tmp_path / "hot", n_head=12)
    ours = convert(folder, "bloom", output=tmp_path / "ours").output
    from transformers.models.bloom import modeling_bloom

    name = "_get_alibi_slopes" if hasattr(modeling_bloom, "_get_alibi_slopes") else "build_alibi_tensor"
    plain = getattr(getattr(modeling_bloom, name), "__wrapped__", getattr(modeling_bloom, name))
    with monkeypatch.context() as patch:
        patch.setattr(modeling_bloom, name, plain)
        patch.setattr(running, "rebuild_alibi", lambda model: None)
        assert compare(ours, folder, levels=["L2"]).verdict == "FAIL"
    monkeypatch.setattr(modeling_bloom, name, plain)
    assert compare(ours, folder, levels=["L2"]).verdict == "PASS"
    assert precision.rebuild_alibi is running.rebuild_alibi


def test_slopes_of_another_formula_are_found(tmp_path):
    """A BLOOM with a number of heads that is no power of two, read with the slopes of MPT."""
    folder = make_hot("bloom", tmp_path / "hot", n_head=12)
    ours = convert(folder, "bloom", output=tmp_path / "ours").output
    config = ours / "config.json"
    config.write_text(config.read_text().replace('"alibi_formula": "bloom"', '"alibi_formula": "mpt"'))
    assert compare(ours, folder, levels=["L2"]).verdict == "FAIL"
