"""The forms in which one LLaMA comes: wrapped keys, redundant heads, stored tables, padding, pickles. All return."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from converters import convert
from converters.alignment import align, equal_folders
from converters.conversion import Request
from converters.errors import CoverageRefused, NotInvertible, UnsafeFile
from converters.plan.options import Options
from converters.plan.plan import make_plan
from converters.sample import write_sample

LAYERS, HEAD_DIM = 3, 16  # of the sample


@pytest.fixture
def source(tmp_path) -> Path:
    return write_sample(tmp_path / "source")


def edit(folder: Path, change=lambda tensors: None, **config) -> None:
    """Changes tensors and config of a folder."""
    tensors = load_file(folder / "model.safetensors")
    tensors = change(tensors) or tensors
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    content = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


def tied(tensors):
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()


def round_trip(source: Path, place: Path, **options) -> tuple[Path, Path]:
    ours = convert(source, output=place / "ours", request=Request(options=Options(**options))).output
    back = convert(ours, to="llama", output=place / "back").output
    assert equal_folders(source, back) == []
    assert json.loads((source / "config.json").read_text()) == json.loads((back / "config.json").read_text())
    return ours, back


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_a_wrapper_before_every_key_comes_off_and_returns(prefix, source, tmp_path):
    edit(source, lambda tensors: {prefix + key: value for key, value in tensors.items()})
    ours, _ = round_trip(source, tmp_path)
    assert "layers.0.wte.weight" in load_file(ours / "model.safetensors")


def test_a_wrapper_before_some_keys_is_refused(source, tmp_path):
    edit(source, lambda tensors: {f"module.{k}" if "norm" in k else k: v for k, v in tensors.items()})
    with pytest.raises(CoverageRefused, match=r"module\."):
        convert(source, output=tmp_path / "ours")


def test_keys_of_a_bare_decoder_are_named_and_return(source, tmp_path):
    edit(source, lambda tensors: {key.removeprefix("model."): value for key, value in tensors.items()})
    round_trip(source, tmp_path)


def test_a_tied_bare_decoder_is_a_model(source, tmp_path):
    def change(tensors):
        del tensors["lm_head.weight"]
        return {key.removeprefix("model."): value for key, value in tensors.items()}

    edit(source, change, tie_word_embeddings=True, architectures=["LlamaModel"])
    round_trip(source, tmp_path)


def test_a_redundant_copy_of_a_tied_head_is_left_out_and_returns(source, tmp_path):
    edit(source, tied, tie_word_embeddings=True)
    ours, _ = round_trip(source, tmp_path)
    tensors = load_file(ours / "model.safetensors")
    assert f"layers.{LAYERS + 1}.linear.weight" not in tensors
    assert align(ours, source).problems == ()


def test_a_head_that_differs_from_the_embedding_is_kept_although_the_config_says_tied(source, tmp_path):
    edit(source, tie_word_embeddings=True)
    ours, _ = round_trip(source, tmp_path)
    config = json.loads((ours / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    report = convert(source, output=tmp_path / "again")
    assert any("differs from the embedding" in note for note in report.notes)


@pytest.mark.parametrize("said", [False, ...], ids=["untied", "nothing said"])
def test_a_missing_head_can_only_be_a_tied_one(said, source, tmp_path):
    edit(source, lambda tensors: tensors.pop("lm_head.weight") is None or None, tie_word_embeddings=said)
    ours, _ = round_trip(source, tmp_path)
    assert json.loads((ours / "config.json").read_text())["tie_word_embeddings"] is True
    assert any("there is no head" in note for note in make_plan(source).notes)


def inv_freq(dtype: torch.dtype) -> torch.Tensor:
    dim = HEAD_DIM
    return (1.0 / 10000.0 ** (torch.arange(0, dim, 2).float() / dim)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_stored_rotary_tables_are_checked_left_out_and_return(dtype, source, tmp_path):
    def change(tensors):
        for i in range(LAYERS):
            tensors[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = inv_freq(dtype)

    edit(source, change)
    ours, back = round_trip(source, tmp_path)
    assert not any("inv_freq" in key for key in load_file(ours / "model.safetensors"))
    assert load_file(back / "model.safetensors")["model.layers.1.self_attn.rotary_emb.inv_freq"].dtype is dtype


def test_a_table_that_is_not_what_its_formula_says_is_refused_unless_dropped(source, tmp_path):
    key = "model.layers.1.self_attn.rotary_emb.inv_freq"

    def change(tensors):
        tensors[key] = inv_freq(torch.float32) * 1.001

    edit(source, change)
    with pytest.raises(NotInvertible, match=f"{key}.*--drop-buffers"):
        convert(source, output=tmp_path / "ours")
    report = convert(source, output=tmp_path / "ours", request=Request(options=Options(drop_buffers=True)))
    assert any(key in note for note in report.notes)
    record = json.loads((tmp_path / "ours" / "conversion.json").read_text())
    assert record["lossy_steps"] == [{"step": "drop buffers", "keys": [key]}]


def test_mixed_dtypes_stay_as_they_are(source, tmp_path):
    def change(tensors):
        return {k: v if "norm" in k else v.to(torch.bfloat16) for k, v in tensors.items()}

    edit(source, change, dtype="bfloat16")
    ours, _ = round_trip(source, tmp_path)
    tensors = load_file(ours / "model.safetensors")
    assert tensors["layers.1.ln_1.weight"].dtype is torch.float32
    assert tensors["layers.1.attn.Wqkv.weight"].dtype is torch.bfloat16


def test_parts_of_one_matrix_in_two_dtypes_are_refused_by_name(source, tmp_path):
    def change(tensors):
        key = "model.layers.0.self_attn.k_proj.weight"
        tensors[key] = tensors[key].half()

    edit(source, change)
    with pytest.raises(Exception, match="dtypes F32 and F16") as caught:
        convert(source, output=tmp_path / "ours")
    assert any("k_proj" in note for note in caught.value.__notes__)


def test_a_padded_vocabulary_is_cropped_again(source, tmp_path):
    ours, _ = round_trip(source, tmp_path, pad_vocab=64)
    assert json.loads((ours / "config.json").read_text())["vocab_size"] == 320
    assert load_file(ours / "model.safetensors")["layers.0.wte.weight"].shape == (320, 96)


def test_a_trained_padding_refuses_to_go_back(source, tmp_path):
    ours, _ = round_trip(source, tmp_path, pad_vocab=64)
    tensors = load_file(ours / "model.safetensors")
    tensors["layers.0.wte.weight"][300, 5] = 1e-30
    save_file(tensors, ours / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NotInvertible, match=r"wte.*rows 259\.\.319 are padding"):
        convert(ours, to="llama", output=tmp_path / "trained")


def test_a_vocabulary_that_was_resized_since_is_taken_as_it_is(source, tmp_path):
    ours, _ = round_trip(source, tmp_path, pad_vocab=128)
    edit(ours, lambda tensors: {k: v[:300] if v.shape[0] == 384 else v for k, v in tensors.items()}, vocab_size=300)
    back = convert(ours, to="llama", output=tmp_path / "resized").output
    assert json.loads((back / "config.json").read_text())["vocab_size"] == 300


def as_pickle(folder: Path, *, legacy: bool, shards: int = 1, change=lambda tensors: tensors) -> None:
    """The folder with torch files instead of safetensors."""
    tensors = change(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    keys = list(tensors)
    names = ["pytorch_model.bin"]
    if shards > 1:
        names = [f"pytorch_model-{k + 1:05d}-of-{shards:05d}.bin" for k in range(shards)]
        weight_map = {key: names[k % shards] for k, key in enumerate(keys)}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for k, name in enumerate(names):
        part = {key: tensors[key] for key in keys[k::shards]}
        torch.save(part, folder / name, _use_new_zipfile_serialization=not legacy)


@pytest.mark.parametrize(("legacy", "shards"), [(False, 1), (False, 3), (True, 1), (True, 2)])
def test_torch_files_are_read_like_safetensors(legacy, shards, source, tmp_path):
    shutil.copytree(source, tmp_path / "plain")
    as_pickle(source, legacy=legacy, shards=shards)
    _, back = round_trip(source, tmp_path)
    assert equal_folders(tmp_path / "plain", back) == []


def test_transposed_and_shared_storages_are_read_as_tensors(source, tmp_path):
    def change(tensors):
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].t().contiguous().t()
        key = "model.layers.0.mlp.up_proj.weight"
        tensors[key] = torch.cat([tensors[key], tensors[key]])[160:]
        tensors["lm_head.weight"] = torch.nn.Parameter(tensors["lm_head.weight"])
        return tensors

    shutil.copytree(source, tmp_path / "plain")
    as_pickle(source, legacy=False, change=change)
    _, back = round_trip(source, tmp_path)
    assert equal_folders(tmp_path / "plain", back) == []


def test_safetensors_win_over_a_pickle_and_it_says_so(source, tmp_path):
    (source / "pytorch_model.bin").write_bytes(b"anything")
    report = convert(source, output=tmp_path / "ours")
    assert report.notes == ("model.safetensors was read and pytorch_model.bin was not: the folder has both",)


class Hostile:
    """Unpickling it would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_hostile_pickle_is_refused_and_does_nothing(legacy, source, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    (source / "model.safetensors").unlink()
    target = tmp_path / "pwned"
    torch.save({"x": Hostile(target)}, source / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeFile, match="safely"):
        convert(source, output=tmp_path / "ours")
    assert not target.exists() and not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"x": 3}, "expected tensors by name"),
        ([torch.zeros(2)], "expected a state dict"),
        ({7: torch.zeros(2)}, "expected tensors by name"),
        ({"x": np.float64(3.0)}, "safely"),
        ({"x": torch.zeros(2, dtype=torch.complex64)}, "safely"),
    ],
    ids=["a number", "a list", "a numbered tensor", "numpy", "complex"],
)
def test_a_pickle_of_something_else_is_refused(content, sentence, source, tmp_path):
    (source / "model.safetensors").unlink()
    torch.save(content, source / "pytorch_model.bin")
    with pytest.raises(UnsafeFile, match=sentence):
        convert(source, output=tmp_path / "ours")


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_torch_file_is_refused(keep, source, tmp_path):
    as_pickle(source, legacy=False)
    file = source / "pytorch_model.bin"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UnsafeFile):
        convert(source, output=tmp_path / "ours")


def test_a_tensor_beyond_its_storage_is_refused(source, tmp_path):
    from converters.checkpoint.torch_pickle import LazyTensor
    from converters.checkpoint.torch_pickle import Storage as Place
    from converters.checkpoint.torch_zip import Saved

    lazy = LazyTensor(Place("0", "F32", 4, 10), 5, (3, 2), (2, 1))
    with pytest.raises(UnsafeFile, match="beyond its storage"):
        Saved(source, None, {"0": (100, 40)}).tensors({"x": lazy})
