"""GGUF beyond plain float32: 16-bit tensors, scaled rotary embeddings, quantised tensors on request."""

import json

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from converters import convert
from converters.checkpoint.gguf_header import read_gguf, shortest
from converters.checkpoint.opening import open_checkpoint
from converters.conversion import Request
from converters.errors import Refused, UnsafeFile
from converters.plan.options import Options
from converters.plan.plan import make_plan
from golden import compare

WHOLE_BLOCKS = {"hidden_size": 64, "head_dim": 8, "intermediate_size": 96}
DEQUANTIZE = Request(Options(dequantize=True))


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_16_bit_tensors_are_read_in_place(kind, hot_llama, writers, tmp_path):
    native = writers["gguf"](hot_llama(), tmp_path / "model.gguf", kind=kind)
    ours = convert(native, "llama", output=tmp_path / "ours").output
    assert compare(ours, native, levels=["L0", "L1", "L2"]).verdict == "PASS"
    weights = load_file(convert(native, to="llama", output=tmp_path / "llama").output / "model.safetensors")
    original = load_file(hot_llama() / "model.safetensors")
    dtype = {"F16": torch.float16, "BF16": torch.bfloat16}[kind]
    for key, tensor in weights.items():
        assert torch.equal(tensor, original[key].to(dtype) if tensor.ndim == 2 else original[key]), key


@pytest.mark.parametrize(
    ("rope", "edit"),
    [
        (
            {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.5},
            lambda w: (w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR), w.add_rope_scaling_factor(2.5)),
        ),
        (
            {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.5},
            lambda w: w.add_float32("llama.rope.scale_linear", 2.5),
        ),
        (
            {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 40},
            lambda w: (
                w.add_rope_scaling_type(gguf.RopeScalingType.YARN),
                w.add_rope_scaling_factor(4.0),
                w.add_rope_scaling_orig_ctx_len(40),
            ),
        ),
        ({"rope_type": "default", "rope_theta": 1e4}, lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.NONE)),
    ],
    ids=["linear", "old linear", "yarn", "none"],
)
def test_scaled_rotary_embeddings_by_type(rope, edit, hot_llama, writers, tmp_path):
    """transformers does not read these out of a GGUF, so the LLaMA that it was made from is the reference."""
    hot = hot_llama(rope_parameters=rope)
    native = writers["gguf"](hot, tmp_path / "model.gguf", edit=edit)
    ours = convert(native, output=tmp_path / "ours").output
    assert compare(ours, hot, levels=["L1", "L2"]).verdict == "PASS"
    back = make_plan(ours, to="llama-gguf").config
    assert back["llama.rope.freq_base"] == 1e4


def rope_factors(head_dim, base, factor):
    """The tensor that llama.cpp's converter makes for LLaMA 3.1, in float32."""
    frequencies = 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    found = []
    for frequency in frequencies:
        wavelength = 2 * np.pi / frequency
        smooth = (8192 / wavelength - 1) / 3
        found.append(
            1.0 if wavelength < 2048 else factor if wavelength > 8192 else 1 / ((1 - smooth) / factor + smooth)
        )
    return np.array(found, np.float32)


def test_the_factors_of_llama_3_1_are_a_tensor(hot_llama, writers, tmp_path):
    rope = {
        "rope_type": "llama3",
        "rope_theta": 5e5,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    hot = hot_llama(rope_parameters=rope, head_dim=24)
    factors = rope_factors(24, 5e5, 32.0)
    assert len(set(factors.tolist())) >= 3
    native = writers["gguf"](hot, tmp_path / "model.gguf", edit=lambda w: w.add_tensor("rope_freqs.weight", factors))
    ours = convert(native, output=tmp_path / "ours").output
    assert compare(ours, hot, levels=["L1", "L2"]).verdict == "PASS"
    assert "rope_freqs.weight" in {tensor.key for tensor in make_plan(ours, to="llama-gguf").tensors}
    other = writers["gguf"](
        hot, tmp_path / "other.gguf", edit=lambda w: w.add_tensor("rope_freqs.weight", factors[::-1].copy())
    )
    with pytest.raises(Refused, match=r"rope_freqs\.weight\[0\] is 32"):
        make_plan(other)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_quantised_tensors_are_dequantised_on_request(kind, hot_llama, writers, tmp_path):
    native = writers["gguf"](hot_llama(**WHOLE_BLOCKS), tmp_path / "model.gguf", kind=kind)
    with pytest.raises(Refused, match="--dequantize"):
        convert(native, output=tmp_path / "never")
    report = convert(native, output=tmp_path / "ours", request=DEQUANTIZE)
    assert "model.safetensors" in report.files and any("lossy" in note for note in report.notes)
    (step,) = json.loads((report.output / "conversion.json").read_text())["lossy_steps"]
    assert step == {"step": "dequantize", "dtype": "float32", "types": {kind: 23}}
    verdict = compare(report.output, native, levels=["L0", "L1", "L2"])
    assert verdict.verdict == "PASS" and verdict.level("L2").number <= 1e-10
    assert convert(native, output=tmp_path / "ours", request=DEQUANTIZE).up_to_date
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_plan_dequantises_nothing(hot_llama, writers, tmp_path, monkeypatch):
    native = writers["gguf"](hot_llama(**WHOLE_BLOCKS), tmp_path / "model.gguf", kind="Q8_0")
    monkeypatch.setattr("converters.forms.dequantise._write", None)
    plan = make_plan(native, options=Options(dequantize=True))
    assert {tensor.dtype for tensor in plan.tensors} == {"F32"}
    assert plan.nbytes == sum(4 * np.prod(t.shape) for t in plan.source.tensors.values())


def test_mixed_types_all_become_float32(hot_llama, writers, tmp_path):
    """Queries of one type and keys of another are one matrix in ours."""
    native = writers["gguf"](hot_llama(**WHOLE_BLOCKS), tmp_path / "model.gguf", kind="Q8_0")
    numbers = np.zeros((32, 64), np.float16)
    half = tmp_path / "half.gguf"
    writer, reader = gguf.GGUFWriter(half, "llama"), gguf.GGUFReader(native)
    for field in reader.fields.values():
        if field.name.startswith("llama."):
            kind = field.types[0]
            writer.add_key_value(field.name, field.contents(), kind)
    for tensor in reader.tensors:
        if tensor.name.endswith("attn_k.weight"):
            writer.add_tensor(tensor.name, numbers)
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ours = convert(half, output=tmp_path / "ours", request=DEQUANTIZE).output
    assert not load_file(ours / "model.safetensors")["layers.1.attn.Wqkv.weight"][64:96].any()


def test_without_the_gguf_package_it_says_so(hot_llama, writers, tmp_path, monkeypatch):
    native = writers["gguf"](hot_llama(**WHOLE_BLOCKS), tmp_path / "model.gguf", kind="Q8_0")
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(UnsafeFile, match="pip install gguf"):
        convert(native, output=tmp_path / "ours", request=DEQUANTIZE)
    assert not (tmp_path / "ours").exists()


def test_floats_are_the_shortest_that_read_back():
    values = [1e-5, 1e-6, 10000.0, 500000.0, 0.1, 3.4e38, 1e-45, 7.0, 0.0, -2.5]
    assert [shortest(float(np.float32(value))) for value in values] == values
    for number in np.random.default_rng(0).integers(0, 2**32, 500, np.uint32).view(np.float32).tolist():
        if number == number:
            assert np.float32(shortest(number)).tobytes() == np.float32(number).tobytes()


def test_metadata_is_what_the_gguf_package_reads(hot_llama, writers, tmp_path):
    native = writers["gguf"](hot_llama(), tmp_path / "model.gguf", kind="F16")
    ours, theirs = read_gguf(native), gguf.GGUFReader(native)
    for name, value in ours.metadata.items():
        found = theirs.fields[name].contents()
        assert value == found if not isinstance(value, float) else np.float32(value) == np.float32(found), name
    for mine, tensor in zip(ours.tensors, sorted(theirs.tensors, key=lambda t: t.data_offset), strict=True):
        shape = tuple(int(n) for n in reversed(tensor.shape))
        assert (mine.key, mine.kind, mine.shape, mine.begin, mine.nbytes) == (
            tensor.name,
            tensor.tensor_type.name,
            shape,
            tensor.data_offset,
            tensor.n_bytes,
        )


def test_the_tokenizer_is_told_of_and_its_ids_are_kept(hot_llama, writers, tmp_path):
    native = writers["gguf"](hot_llama(), tmp_path / "model.gguf")
    assert any("tokenizer" in note for note in open_checkpoint(native).notes)
    config = make_plan(native, to="llama").config
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)


def test_a_target_that_cannot_be_is_refused_before_anything_is_dequantised(hot_llama, writers, tmp_path, monkeypatch):
    native = writers["gguf"](hot_llama(**WHOLE_BLOCKS), tmp_path / "model.gguf", kind="Q8_0")
    monkeypatch.setattr("converters.forms.dequantise._write", None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(Refused, match="not empty"):
        convert(native, output=tmp_path / "full", request=DEQUANTIZE)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["x"]
