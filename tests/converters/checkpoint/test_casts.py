"""Casts round as torch rounds, are bounded and recorded; a cast that nobody recorded is a difference."""

import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from converters import convert
from converters.alignment import align
from converters.checkpoint.casts import NAMES, cast
from converters.conversion import Request
from converters.errors import NotInvertible, UsageError
from converters.plan.options import Options
from converters.sample import write_sample

TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@given(
    st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=40),
    st.sampled_from(sorted(TORCH)),
    st.sampled_from(sorted(TORCH)),
)
def test_a_cast_is_torchs_cast(numbers, was, to):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = torch.tensor(numbers, dtype=torch.float64).to(TORCH[was])
    expected = start.to(TORCH[to])
    if (torch.isfinite(start) & ~torch.isfinite(expected)).any():
        with pytest.raises(NotInvertible, match="cannot hold"):
            cast(bits(start), was, to, "x")
        return
    done = cast(bits(start), was, to, "x")
    found = torch.frombuffer(bytearray(done.data), dtype=TORCH[to])
    assert torch.equal(torch.isnan(found), torch.isnan(expected))
    assert torch.equal(torch.nan_to_num(found.double()), torch.nan_to_num(expected.double()))
    finite = torch.isfinite(start)
    assert done.error == ((start.double() - expected.double()).abs()[finite].max() if finite.any() else 0.0)


def test_every_bfloat16_survives_a_widening_and_returns():
    every = np.arange(2**16, dtype="<u2").tobytes()
    back = np.frombuffer(cast(cast(every, "BF16", "F32", "x").data, "F32", "BF16", "x").data, "<u2")
    numbers = torch.from_numpy(np.arange(2**16, dtype=np.uint16).view(np.int16)).view(torch.bfloat16)
    same = back == np.arange(2**16)
    assert same[~torch.isnan(numbers).numpy()].all()


@pytest.fixture
def source(tmp_path):
    return write_sample(tmp_path / "source")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_cast_conversion_is_recorded_and_bounded(name, source, tmp_path):
    ours = convert(source, output=tmp_path / "ours", request=Request(options=Options(dtype=name))).output
    theirs, tensors = load_file(source / "model.safetensors"), load_file(ours / "model.safetensors")
    qkv = torch.cat([theirs[f"model.layers.0.self_attn.{n}_proj.weight"] for n in "qkv"])
    assert torch.equal(tensors["layers.1.attn.Wqkv.weight"], qkv.to(TORCH[NAMES[name]]))
    assert json.loads((ours / "config.json").read_text())["dtype"] == name
    steps = json.loads((ours / "conversion.json").read_text())["lossy_steps"]
    if name == "float32":
        assert steps == []
    else:
        (step,) = steps
        assert (step["step"], step["dtype"]) == ("cast", name)
        error = (qkv - qkv.to(TORCH[NAMES[name]]).float()).abs().max().item()
        assert step["max_error"]["layers.1.attn.Wqkv.weight"] == pytest.approx(error)
    found = align(ours, source)
    assert found.problems == () and list(found.differing()) == []


def test_a_cast_that_is_not_recorded_is_a_problem(source, tmp_path):
    ours = convert(source, output=tmp_path / "ours", request=Request(options=Options(dtype="bfloat16"))).output
    (ours / "conversion.json").unlink()
    assert any("BF16" in problem and "expected F32" in problem for problem in align(ours, source).problems)


def test_a_cast_works_on_the_way_back_too(source, tmp_path):
    ours = convert(source, output=tmp_path / "ours").output
    back = convert(ours, to="llama", output=tmp_path / "back", request=Request(options=Options(dtype="float16"))).output
    config = json.loads((back / "config.json").read_text())
    assert config["dtype"] == "float16"
    assert load_file(back / "model.safetensors")["lm_head.weight"].dtype is torch.float16
    assert align(back, ours).problems == () and list(align(back, ours).differing()) == []


def test_a_number_too_large_for_the_dtype_is_refused_and_nothing_kept(source, tmp_path):
    tensors = load_file(source / "model.safetensors")
    tensors["model.norm.weight"][3] = 70000.0
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(NotInvertible, match=r"layers\.4\.ln\.weight holds 70000.*choose bfloat16"):
        convert(source, output=tmp_path / "ours", request=Request(options=Options(dtype="float16")))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]
    with pytest.raises(UsageError, match="int4"):
        convert(source, output=tmp_path / "ours", request=Request(options=Options(dtype="int4")))
