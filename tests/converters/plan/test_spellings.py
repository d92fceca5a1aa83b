"""A MixFormer may say one function in several ways; the way back is sound from each, and the verdict says so."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from converters import convert
from converters.alignment import align, equal_folders
from converters.errors import ConfigRefused, CoverageRefused
from converters.sample import write_sample

SPELLINGS = [
    ("llama", "norm.norm_cls", "flash_rms"),
    ("llama", "mixer.window_size", [-1, -1]),
    ("phi", "norm.norm_cls", "low_precision"),
    ("phi", "mixer.rotary_dim", -1),
    ("phi3", "mixer.rotary_dim", -1),
    *(("mistral", "mixer.window_size", window) for window in (7, [7, 0], "(7,0)", [7, -1], -1, [-1, -1], "1")),
]


def ours_of(family, place):
    return convert(write_sample(place / "source", family), output=place / "ours").output


def say(folder, path, value):
    config = json.loads((folder / "config.json").read_text())
    part, name = path.split(".")
    config["architecture"][part][name] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(("family", "path", "value"), SPELLINGS)
def test_another_spelling_of_the_same_function_is_no_difference(family, path, value, tmp_path):
    ours = ours_of(family, tmp_path)
    say(ours, path, value)
    theirs = convert(ours, to=family, output=tmp_path / "theirs").output
    assert align(theirs, ours).problems == ()
    assert align(ours, theirs).problems == ()


def test_a_fused_mlp_is_the_same_mlp_under_other_keys(tmp_path):
    ours = ours_of("phi", tmp_path)
    say(ours, "mlp.mlp_cls", "fused_mlp")
    tensors = load_file(ours / "model.safetensors")
    renamed = {key.replace(".mlp.fc", ".mlp.mlp.fc"): tensor for key, tensor in tensors.items()}
    save_file(renamed, ours / "model.safetensors", metadata={"format": "pt"})
    theirs = convert(ours, to="phi", output=tmp_path / "theirs").output
    assert align(theirs, ours).problems == ()


@pytest.mark.parametrize(("path", "value"), [("mixer.window_size", 6), ("norm.eps", 1e-3), ("mixer.rotary_base", 9e3)])
def test_another_function_is_a_difference_however_it_is_spelled(path, value, tmp_path):
    ours = ours_of("mistral", tmp_path)
    theirs = convert(ours, to="mistral", output=tmp_path / "theirs").output
    say(ours, path, value)
    assert len(align(theirs, ours).problems) == 1
    assert len(align(ours, theirs).problems) == 1


UNSOUND = [
    ("phi", "mixer.rotary_dim", "x"),
    ("phi", "mixer.rotary_dim", 10**39),
    ("phi", "mixer.head_dim", 10**39),
    ("codegen", "mixer.head_dim", {}),
    ("gpt2", "mixer.bias", "x"),
    ("mistral", "mixer.window_size", [1]),
    ("qwen3", "mixer.qk_norm", 1),
]


@pytest.mark.parametrize(("family", "path", "value"), UNSOUND, ids=[f"{f} {p}" for f, p, _ in UNSOUND])
def test_a_value_of_another_kind_is_refused_by_its_path(family, path, value, tmp_path):
    ours = ours_of(family, tmp_path)
    say(ours, path, value)
    with pytest.raises(ConfigRefused, match=path.split(".")[1]):
        convert(ours, to=family, output=tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize(("name", "value"), [("pad_vocab_size_multiple", "x"), ("n_layer", 10**30), ("n_embd", 10**39)])
def test_a_size_of_another_kind_is_refused_by_its_name(name, value, tmp_path):
    ours = ours_of("qwen2", tmp_path)
    config = json.loads((ours / "config.json").read_text())
    (ours / "config.json").write_text(json.dumps({**config, name: value}))
    with pytest.raises(ConfigRefused, match=name):
        convert(ours, to="qwen2", output=tmp_path / "theirs")


def test_a_head_dim_beyond_all_bounds_is_refused(tmp_path):
    phi = write_sample(tmp_path / "phi", "phi")
    config = json.loads((phi / "config.json").read_text())
    (phi / "config.json").write_text(json.dumps({**config, "head_dim": 10**39}))
    with pytest.raises(ConfigRefused, match="head_dim"):
        convert(phi, output=tmp_path / "out")


def test_a_gpt2_that_says_untied_and_has_no_head_is_tied(tmp_path):
    gpt2 = write_sample(tmp_path / "gpt2", "gpt2")
    tensors = load_file(gpt2 / "model.safetensors")
    tensors.pop("lm_head.weight", None)
    save_file(tensors, gpt2 / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((gpt2 / "config.json").read_text())
    (gpt2 / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    report = convert(gpt2, output=tmp_path / "out")
    assert any("no head" in note for note in report.notes)
    assert equal_folders(gpt2, convert(report.output, to="gpt2", output=tmp_path / "back").output) == []


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64, torch.uint8], ids=str)
def test_a_weight_that_is_no_floating_point_number_is_refused(dtype, tmp_path):
    source = write_sample(tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(dtype)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CoverageRefused, match=r"model\.norm\.weight is .*floating"):
        convert(source, output=tmp_path / "out")
