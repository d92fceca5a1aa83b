"""Native files that we write: equal to what they came from, loadable by those who read them, and refused where not."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file

from converters import convert
from converters.alignment import equal_folders
from converters.conversion import Request
from converters.engine.shard_writing import Writing
from converters.errors import Refused, UsageError
from converters.plan.options import Options
from golden import compare

NATIVE = Request(native=True)


def saved(path):
    """The content of a ckpt.pt as nanoGPT loads it."""
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("tied", [True, False])
def test_a_llama2c_file_returns_byte_for_byte(version, tied, hot_llama, writers, tmp_path):
    native = writers["llama2c"](hot_llama(tie_word_embeddings=tied), tmp_path / "model.bin", version=version)
    ours = convert(native, output=tmp_path / "ours").output
    back = convert(ours, to="llama2c", output=tmp_path / "back", request=NATIVE).output
    assert (back / "model.bin").read_bytes() == native.read_bytes()
    assert sorted(path.name for path in back.iterdir()) == ["conversion.json", "model.bin"]
    assert (back / "model.bin").stat().st_mode & 0o777 == 0o644
    assert equal_folders(back, native) == []


def test_a_llama_that_never_was_one_becomes_a_llama2c_file(hot_llama, tmp_path):
    hot = hot_llama(max_position_embeddings=40)
    back = convert(hot, to="llama2c", output=tmp_path / "native", request=NATIVE).output
    assert compare(back, hot, levels=["L1", "L2"]).verdict == "PASS"
    head = struct.unpack("<7i", (back / "model.bin").read_bytes()[:28])
    assert head == (48, 88, 3, 8, 4, -332, 40)
    assert convert(back, to="llama", output=tmp_path / "again").tensors == 30


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"rms_norm_eps": 1e-6}, "1e-06"),
        ({"head_dim": 10}, "heads of 10 dimensions"),
        ({"attention_bias": True}, "bias"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, "rotary_base"),
    ],
    ids=str,
)
def test_what_llama2c_cannot_say_is_refused(overrides, words, hot_llama, tmp_path):
    with pytest.raises(Refused, match=words):
        convert(hot_llama(**overrides), to="llama2c", output=tmp_path / "native", request=NATIVE)
    assert not (tmp_path / "native").exists()


def test_llama2c_takes_float32_alone(hot_llama, tmp_path):
    ours = convert(hot_llama(), output=tmp_path / "ours", request=Request(Options(dtype="bfloat16"))).output
    with pytest.raises(Refused, match="--dtype float32"):
        convert(ours, to="llama2c", output=tmp_path / "native", request=NATIVE)
    request = Request(Options(dtype="float32"), native=True)
    assert convert(ours, to="llama2c", output=tmp_path / "native", request=request).files


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_a_ckpt_returns_equal(bias, prefix, writers, tmp_path):
    native = writers["nanogpt"](tmp_path / "out" / "ckpt.pt", bias=bias, prefix=prefix)
    ours = convert(native, output=tmp_path / "ours").output
    back = convert(ours, to="nanogpt", output=tmp_path / "back", request=NATIVE).output
    assert equal_folders(back, native) == []
    was, now = saved(native), saved(back / "ckpt.pt")
    assert now["model_args"] == was["model_args"] and now["config"] == was["config"] and now["iter_num"] == 2000
    assert now["model"].keys() == was["model"].keys()
    assert all(torch.equal(now["model"][key], tensor) for key, tensor in was["model"].items())
    embedding, head = (now["model"][f"{prefix}{key}.weight"] for key in ("transformer.wte", "lm_head"))
    assert embedding.data_ptr() == head.data_ptr()
    record = json.loads((back / "conversion.json").read_text())
    assert len(record["files"]["ckpt.pt"]) == 64 and record["format"] == "native"


def test_native_output_is_up_to_date_the_second_time(writers, tmp_path):
    native = writers["nanogpt"](tmp_path / "ckpt.pt")
    ours = convert(native, output=tmp_path / "ours").output
    quiet = Request(native=True, writing=Writing(hash=False, fsync=False))
    assert not convert(ours, to="nanogpt", output=tmp_path / "back", request=quiet).up_to_date
    assert convert(ours, to="nanogpt", output=tmp_path / "back", request=quiet).up_to_date
    with pytest.raises(Refused, match="not empty"):
        convert(ours, to="nanogpt", output=tmp_path / "back")
    forced = Request(force=True)
    assert "config.json" in convert(ours, to="nanogpt", output=tmp_path / "back", request=forced).files


def test_biases_that_training_moved_do_not_go_back(writers, tmp_path):
    native = writers["nanogpt"](tmp_path / "ckpt.pt", bias=False)
    ours = convert(native, output=tmp_path / "ours").output
    weights = load_file(ours / "model.safetensors")
    assert not weights["layers.1.mlp.fc1.bias"].any() and "layers.1.ln_1.bias" not in weights
    data = bytearray((ours / "model.safetensors").read_bytes())
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    at = 8 + int.from_bytes(data[:8], "little") + header["layers.1.mlp.fc1.bias"]["data_offsets"][0]
    data[at : at + 4] = struct.pack("<f", 0.5)
    (ours / "model.safetensors").write_bytes(data)
    with pytest.raises(Refused, match=r"layers\.1\.mlp\.fc1\.bias.*bit pattern"):
        convert(ours, to="nanogpt", output=tmp_path / "back", request=NATIVE)


def test_other_families_have_no_form_of_their_own(hot_llama, tmp_path):
    with pytest.raises(UsageError, match="--to llama2c, --to nanogpt"):
        convert(hot_llama(), output=tmp_path / "ours", request=NATIVE)


@pytest.mark.parametrize("name", ["llama2c", "llama-meta", "nanogpt"])
def test_a_dialect_written_as_safetensors_can_be_judged(name, hot_llama, writers, tmp_path):
    makers = {
        "llama2c": lambda: writers["llama2c"](hot_llama(), tmp_path / "model.bin"),
        "llama-meta": lambda: writers["meta"](hot_llama(intermediate_size=64), tmp_path / "meta", ranks=2),
        "nanogpt": lambda: writers["nanogpt"](tmp_path / "ckpt.pt"),
    }
    ours = convert(makers[name](), output=tmp_path / "ours").output
    back = convert(ours, to=name, output=tmp_path / "back").output
    assert compare(back, ours, levels=["L0", "L1", "L2"]).verdict == "PASS"
