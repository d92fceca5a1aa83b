"""NaN and infinities are carried over and named; the largest finite numbers are not taken for them."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from converters import convert
from converters.conversion import Request
from converters.engine.nonfinite import WatchingHash
from converters.engine.shard_layout import lay_out
from converters.engine.shard_writing import Writing
from converters.plan.options import Options
from converters.plan.plan import make_plan
from converters.sample import write_sample

K = "model.layers.1.self_attn.k_proj.weight"
UP = "model.layers.0.mlp.up_proj.weight"
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture
def planted(tmp_path):
    """Gives a sample with values planted at (key, index), in a dtype."""

    def plant(values, dtype=torch.float32):
        folder = write_sample(tmp_path / "source")
        tensors = {key: tensor.to(dtype) for key, tensor in load_file(folder / "model.safetensors").items()}
        for (key, index), value in values.items():
            tensors[key].view(-1)[index] = value
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return plant


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_that_are_not_finite_are_counted_by_their_key(dtype, planted, tmp_path):
    source = planted({(K, 0): math.nan, (K, 7): -math.inf, (UP, -1): math.inf, (UP, 3): -math.nan}, dtype)
    report = convert(source, output=tmp_path / "out")
    assert report.nonfinite == {UP: 2, K: 2}
    assert convert(report.output, to="llama", output=tmp_path / "back").nonfinite.keys() <= set(load(report.output))
    assert load(tmp_path / "back")[K].view(-1)[7] == -math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_single_one_is_enough(value, threads, planted, tmp_path):
    source = planted({(UP, 1000): value})
    request = Request(max_shard_size=100_000, writing=Writing(threads=threads))
    assert convert(source, output=tmp_path / "out", request=request).nonfinite == {UP: 1}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_largest_finite_numbers_are_finite(dtype, planted, tmp_path):
    limits = torch.finfo(dtype)
    source = planted({(K, 0): limits.max, (K, 1): limits.min, (UP, 0): -0.0, (UP, 1): limits.tiny}, dtype)
    assert convert(source, output=tmp_path / "out").nonfinite == {}


def test_those_of_a_tensor_that_is_transposed_or_cast_are_named_too(planted, tmp_path):
    source = planted({(K, 5): math.inf}, torch.float32)
    request = Request(Options(dtype="bfloat16"))
    assert convert(source, output=tmp_path / "bf16", request=request).nonfinite == {K: 1}
    gpt2 = write_sample(tmp_path / "gpt2", "gpt2")
    tensors = load_file(gpt2 / "model.safetensors")
    tensors["transformer.h.0.attn.c_attn.weight"][3, 2] = math.nan
    save_file(tensors, gpt2 / "model.safetensors", metadata={"format": "pt"})
    assert convert(gpt2, output=tmp_path / "out").nonfinite == {"transformer.h.0.attn.c_attn.weight": 1}


@pytest.mark.parametrize("size", [1, 3, 7, 1000, 4097])
def test_an_element_in_two_buffers_is_not_overlooked(size, planted):
    """However the bytes are cut: what is torn is counted later."""
    plan = make_plan(planted({(K, 5): math.inf}))
    (shard,) = lay_out(plan)
    suspects = {}
    watch = WatchingHash(shard, suspects)
    data = memoryview(as_written(shard, plan.source))
    for start in range(0, len(data), size):
        watch.update(data[start : start + size])
    assert "layers.2.attn.Wqkv.weight" in suspects
    assert len(suspects) == 1 or size % 4


def as_written(shard, source):
    from safetensors.torch import save

    theirs = load_file(source.files[0])
    parts = [b"".join(bytes(save({"x": theirs[s]})[-theirs[s].nbytes :]) for s in t.sources) for t in shard.tensors]
    return shard.header + b"".join(parts)


def load(folder):
    return load_file(folder / "model.safetensors")


def test_the_command_names_them_and_converts(planted, tmp_path):
    from cli.main import app

    source = planted({(K, 0): math.nan})
    words = ["llama", str(source), "--to", "mixformer", "-o", str(tmp_path / "out"), "--no-parity"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert f"{K}: 1 value is NaN or infinite" in " ".join(result.output.split())
