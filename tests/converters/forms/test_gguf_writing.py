"""GGUF files that are written: llama.cpp and transformers must find the same model, the way back the same bytes."""

import json
import shutil

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from converters import convert
from converters.conversion import Request
from converters.engine.shard_writing import Writing
from converters.errors import NotInvertible, UnsafeFile
from converters.plan.options import Options
from golden import compare

GGUF = Request(native=True)
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.5}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 40}
# q has 9 heads of 6, so its rows are no multiple of 32 bytes in 16 bits
MODELS = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True},
    "odd sizes": {"hidden_size": 45, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 6},
}


def contents(path):
    """Type, shape and bytes of each tensor of a GGUF file, by the `gguf` package."""
    return {t.name: (t.tensor_type.name, tuple(t.shape), t.data.tobytes()) for t in gguf.GGUFReader(path).tensors}


def in_bfloat16(source, folder):
    """A copy of a model folder in bfloat16."""
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    save_file({key: w.bfloat16() for key, w in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_a_llama_and_its_mixformer_give_the_same_file_and_come_back_equal(name, hot_llama, tmp_path):
    hot = hot_llama(**MODELS[name])
    ours = convert(hot, output=tmp_path / "ours").output
    there = convert(ours, to="llama-gguf", output=tmp_path / "there", request=GGUF).output
    assert compare(there, ours, levels=["L0", "L1", "L2"]).verdict == "PASS"
    assert compare(there, hot, levels=["L0", "L1", "L2"]).verdict == "PASS"
    straight = convert(hot, to="llama-gguf", output=tmp_path / "straight", request=GGUF).output
    assert contents(straight / "model.gguf") == contents(there / "model.gguf")
    again = convert(there, output=tmp_path / "again").output
    back = convert(again, to="llama-gguf", output=tmp_path / "back", request=GGUF).output
    assert contents(back / "model.gguf") == contents(there / "model.gguf")


@pytest.mark.parametrize("tied", [False, True])
def test_a_gpt2_too(tied, hot_gpt2, tmp_path):
    hot = hot_gpt2(tie_word_embeddings=tied)
    ours = convert(hot, output=tmp_path / "ours").output
    there = convert(ours, to="gpt2-gguf", output=tmp_path / "there", request=GGUF).output
    assert compare(there, ours, levels=["L0", "L1", "L2"]).verdict == "PASS"
    again = convert(there, output=tmp_path / "again").output
    back = convert(again, to="gpt2-gguf", output=tmp_path / "back", request=GGUF).output
    assert contents(back / "model.gguf") == contents(there / "model.gguf")


RATES = {
    "rates": (
        {"attn_pdrop": 0.3, "embd_pdrop": 0.2, "resid_pdrop": 0.0},
        ("architecture.mixer.dropout 0.3", "embd_pdrop 0.2"),
    ),
    "none": ({"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}, ()),
}


@pytest.mark.parametrize("case", RATES)
def test_rates_of_dropout_that_are_left_out_are_told_and_change_no_logits(case, hot_gpt2, tmp_path):
    rates, told = RATES[case]
    hot = hot_gpt2(**rates)
    ours = convert(hot, output=tmp_path / "ours").output
    for source, place in ((hot, "from theirs"), (ours, "from ours")):
        done = convert(source, to="gpt2-gguf", output=tmp_path / place, request=GGUF)
        notes = [note for note in done.notes if "inference does not use them" in note]
        assert len(notes) == bool(told)
        assert all(word in notes[0] for word in told) and "resid_pdrop" not in "".join(notes)
        assert compare(done.output, source, levels=["L0", "L1", "L2"]).verdict == "PASS"
    again = convert(tmp_path / "from theirs", output=tmp_path / "again")
    config = json.loads((again.output / "config.json").read_text())
    assert (config["embd_pdrop"], config["resid_pdrop"], config["architecture"]["mixer"]["dropout"]) == (0.0, 0.0, 0.0)


def test_rates_of_dropout_that_a_config_does_not_say_are_told(hot_gpt2, tmp_path):
    """transformers then drops a tenth in training."""
    folder = shutil.copytree(hot_gpt2(), tmp_path / "hot")
    config = json.loads((folder / "config.json").read_text())
    left = {name: value for name, value in config.items() if not name.endswith("_pdrop")}
    (folder / "config.json").write_text(json.dumps(left))
    notes = convert(folder, to="gpt2-gguf", output=tmp_path / "there", request=GGUF).notes
    assert any("embd_pdrop 0.1" in note for note in notes)


def test_matrices_keep_16_bits_and_the_rest_is_widened(hot_llama, tmp_path):
    half = in_bfloat16(hot_llama(**MODELS["odd sizes"]), tmp_path / "half")
    there = convert(half, to="llama-gguf", output=tmp_path / "there", request=GGUF).output
    kinds = {name: kind for name, (kind, _, _) in contents(there / "model.gguf").items()}
    assert {kinds.pop(name) for name in list(kinds) if "norm" in name} == {"F32"}
    assert set(kinds.values()) == {"BF16"}
    assert json.loads((there / "conversion.json").read_text())["lossy_steps"] == []
    assert compare(there, half, levels=["L0", "L1", "L2"]).verdict == "PASS"


def test_16_bits_and_the_tensor_of_llama_3_1_together(hot_llama, tmp_path):
    """What the released LLaMA 3.1 and 3.2 are; as a MixFormer too. The control: another factor in the reference."""
    half = in_bfloat16(hot_llama(rope_parameters=LLAMA3, head_dim=24), tmp_path / "half")
    ours = convert(half, output=tmp_path / "ours").output
    there = convert(ours, to="llama-gguf", output=tmp_path / "there", request=GGUF).output
    assert compare(there, half, levels=["L0", "L1", "L2"]).verdict == "PASS"
    assert compare(there, ours, levels=["L0", "L1", "L2"]).verdict == "PASS"
    other = in_bfloat16(hot_llama(rope_parameters={**LLAMA3, "factor": 8.0}, head_dim=24), tmp_path / "other")
    assert compare(there, other, levels=["L0"]).verdict == "FAIL"


@pytest.mark.parametrize("rope", [LINEAR, YARN, LLAMA3], ids=lambda rope: rope["rope_type"])
def test_scaled_rotary_embeddings_are_metadata_or_a_tensor(rope, hot_llama, tmp_path):
    hot = hot_llama(rope_parameters=rope, head_dim=24)
    there = convert(hot, to="llama-gguf", output=tmp_path / "there", request=GGUF).output
    assert compare(there, hot, levels=["L1", "L2"]).verdict == "PASS"
    assert ("rope_freqs.weight" in contents(there / "model.gguf")) == (rope is LLAMA3)
    other = hot_llama(rope_parameters={**rope, "factor": rope["factor"] * 2}, head_dim=24)
    if rope is not LLAMA3:  # short prompts turn the slow frequencies of LLAMA3 too little
        assert compare(there, other, levels=["L2"]).verdict == "FAIL"
    again = convert(there, output=tmp_path / "again").output
    back = convert(again, to="llama-gguf", output=tmp_path / "back", request=GGUF).output
    assert contents(back / "model.gguf") == contents(there / "model.gguf")


def test_a_changed_file_does_not_pass(hot_llama, tmp_path):
    """The control of the controls: two rows of the queries exchanged."""
    hot = hot_llama()
    there = convert(hot, to="llama-gguf", output=tmp_path / "there", request=GGUF).output
    tensor = next(t for t in gguf.GGUFReader(there / "model.gguf").tensors if t.name == "blk.1.attn_q.weight")
    data, begin = bytearray((there / "model.gguf").read_bytes()), int(tensor.data_offset)
    row = tensor.data.shape[1] * 4
    data[begin : begin + 2 * row] = data[begin + row : begin + 2 * row] + data[begin : begin + row]
    (there / "model.gguf").write_bytes(data)
    verdict = compare(there, hot, levels=["L1", "L2"])
    assert [verdict.level(name).status for name in ("L1", "L2")] == ["FAIL", "FAIL"]


def test_metadata_are_what_llama_cpp_asks_for(hot_llama, tmp_path):
    there = convert(hot_llama(), to="llama-gguf", output=tmp_path / "there", request=GGUF).output
    said = {f.name: f.contents() for f in gguf.GGUFReader(there / "model.gguf").fields.values()}
    wanted = {
        "general.architecture": "llama",
        "general.file_type": 0,
        "llama.vocab_size": 332,
        "llama.block_count": 3,
        "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": 4,
        "llama.attention.key_length": 6,
        "llama.attention.value_length": 6,
        "llama.rope.dimension_count": 6,
        "tokenizer.ggml.model": "none",
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    assert {name: said[name] for name in wanted} == wanted


def refused(source, to, folder, error, match, request=GGUF):
    with pytest.raises(error, match=match):
        convert(source, to=to, output=folder / "out", request=request)
    assert not (folder / "out").exists() and [p for p in folder.iterdir() if p.name.startswith(".")] == []


def test_what_a_file_cannot_hold_is_refused_before_anything_is_written(hot_llama, tmp_path, monkeypatch):
    odd = {"rope_type": "default", "rope_theta": 10000.00001}
    refused(hot_llama(rope_parameters=odd), "llama-gguf", tmp_path, NotInvertible, "freq_base is 10000.00001")
    wide = Request(Options(dtype="float64"), native=True)
    refused(hot_llama(), "llama-gguf", tmp_path, NotInvertible, "F64.*--dtype float32", wide)
    narrow = Request(Options(dtype="bfloat16"), native=True)
    refused(hot_llama(), "llama-gguf", tmp_path, NotInvertible, "a folder with --dtype first", narrow)
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    refused(hot_llama(), "llama-gguf", tmp_path, UnsafeFile, "pip install gguf")


def test_an_interrupted_conversion_leaves_nothing(hot_llama, tmp_path):
    def stop(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(Exception, match="nothing was kept"):
        request = Request(native=True, writing=Writing(progress=stop))
        convert(hot_llama(), to="llama-gguf", output=tmp_path / "out", request=request)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rope", [None, LINEAR, LLAMA3], ids=["plain", "linear", "llama3"])
def test_llama_cpp_computes_the_same_of_a_llama(rope, hot_llama, llama_cpp, tmp_path):
    hot = hot_llama(**MODELS["biases"], **({"rope_parameters": rope, "head_dim": 24} if rope else {}))
    ours = convert(hot, output=tmp_path / "ours").output
    there = convert(ours, to="llama-gguf", output=tmp_path / "there", request=GGUF).output
    assert_same_logits(llama_cpp, there / "model.gguf", hot, 2e-5)


def test_llama_cpp_computes_the_same_of_a_gpt2(hot_gpt2, llama_cpp, tmp_path):
    """ggml looks its GELU up in a table of float16."""
    hot = hot_gpt2()
    there = convert(hot, to="gpt2-gguf", output=tmp_path / "there", request=GGUF).output
    assert_same_logits(llama_cpp, there / "model.gguf", hot, 2e-3)


def assert_same_logits(llama_cpp, path, folder, tolerance):
    """Largest difference over largest logit; and the same of ids in another order is far away."""
    from transformers import AutoModelForCausalLM

    ids = [int(n) for n in np.random.default_rng(5).integers(3, 300, 90)]
    found = llama_cpp.logits(path, ids)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits[0].numpy()
    scale = np.abs(wanted).max()
    assert np.abs(found - wanted).max() / scale <= tolerance
    assert np.abs(found[::-1] - wanted).max() / scale > 100 * tolerance
