"""Files of torch: each is claimed by one form, a bare state dict is a source, nothing of a pickle is run or kept."""

import json
import os
import re
import zipfile

import pytest
import torch
from safetensors.torch import load_file

from converters import convert
from converters.alignment import equal_folders
from converters.checkpoint.file_forms import find_form, forms_of
from converters.checkpoint.opening import open_checkpoint
from converters.checkpoint.torch_pickle import NOTHING
from converters.checkpoint.torch_zip import read_saved
from converters.errors import ConfigRefused, CoverageRefused, Refused, UnsafeFile
from converters.forms.nvidia_ngpt_file import UNNEEDED


def refusal(path, kind=Refused):
    """What opening a file says."""
    with pytest.raises(kind) as caught:
        open_checkpoint(path)
    return str(caught.value)


@pytest.fixture
def files(ngpt, writers, hot_llama, tmp_path):
    """A file of every form that torch saves, by the form's name."""
    ngpt.write_tutorial(tmp_path / "a" / "model.pt")
    ngpt.write_nvidia(tmp_path / "b" / "ckpt.pt")
    writers["nanogpt"](tmp_path / "c" / "ckpt.pt")
    writers["meta"](hot_llama(intermediate_size=64), tmp_path / "d")
    found = {"state_dict": "a/model.pt", "nvidia": "b/ckpt.pt", "nanogpt": "c/ckpt.pt", "meta": "d/consolidated.00.pth"}
    return {name: tmp_path / path for name, path in found.items()}


def test_each_file_is_claimed_by_one_form(files):
    assert {name: [found.form.name for found in forms_of(path)] for name, path in files.items()} == {
        name: [name] for name in files
    }
    assert {name: find_form(path.parent).form.name for name, path in files.items()} == {name: name for name in files}


def test_a_state_dict_beside_another_model_is_passed_over_in_a_folder(files):
    torch.save({"state": torch.ones(2)}, files["nvidia"].parent / "ema.pt")
    assert open_checkpoint(files["nvidia"].parent).config["model_type"] == "ngpt-nvidia"
    torch.save({"more": torch.ones(2)}, files["state_dict"].parent / "other.pt")
    assert "model.pt (a state dict" in refusal(files["state_dict"].parent, UnsafeFile)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["model.pt", "model.pth", "pytorch_model.bin"])
def test_a_state_dict_with_a_config_beside_it_is_a_source(name, legacy, hot_llama, tmp_path):
    weights = load_file(hot_llama() / "model.safetensors")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "config.json").write_bytes((hot_llama() / "config.json").read_bytes())
    torch.save(weights, tmp_path / "source" / name, _use_new_zipfile_serialization=not legacy)
    made = [convert(place, "llama", output=tmp_path / str(k)).output for k, place in enumerate(
        (tmp_path / "source" / name, tmp_path / "source", hot_llama())
    )]  # fmt: skip
    assert equal_folders(made[0], made[1]) == []
    now, was = (load_file(folder / "model.safetensors") for folder in (made[0], made[2]))
    assert all(torch.equal(now[key], tensor) for key, tensor in was.items()) and now.keys() == was.keys()


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module._orig_mod."])
def test_a_state_dict_tells_its_sizes(prefix, ngpt, tmp_path):
    ngpt.write_tutorial(tmp_path / "model.pt", d=20, vocab=31, layers=3, rates=False, prefix=prefix)
    found = open_checkpoint(tmp_path / "model.pt")
    sizes = {"vocab_size": 31, "n_embd": 20, "n_layer": 3, "learned_rates": False, "dtype": "float32"}
    assert found.config == {"model_type": "ngpt-tutorial", **sizes}
    assert found.unsaid == ("n_head",)


def test_nvidias_file_is_read_without_its_class_and_without_numpy(ngpt, tmp_path):
    weights = ngpt.write_nvidia(tmp_path / "ckpt.pt")
    found = open_checkpoint(tmp_path / "ckpt.pt")
    assert found.config == {"model_type": "ngpt-nvidia", **ngpt.nvidia_args(), "iter_num": 1000, "dtype": "float32"}
    assert found.tensors.keys() == weights.keys()
    (note,) = found.notes
    assert all(words in note for words in ("optimizer", "config object", "torch's random", "numpy's random"))


def test_stand_ins_keep_nothing(ngpt, tmp_path):
    ngpt.write_nvidia(tmp_path / "ckpt.pt")
    content = read_saved(tmp_path / "ckpt.pt", UNNEEDED).content
    assert content["config"] is NOTHING and not hasattr(NOTHING, "__dict__")
    assert content["rng_state_numpy"][1] is NOTHING


@pytest.mark.parametrize("form", ["state_dict", "nvidia", "nanogpt"])
def test_no_form_runs_code(form, files, ngpt, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    with ngpt.model_module():
        content = torch.load(files[form], weights_only=False)
        torch.save({**content, "more": Hostile()}, files[form])
    assert "posix.system" in refusal(files[form], UnsafeFile)
    assert not (tmp_path / "owned").exists()


def test_code_inside_of_nvidias_config_is_refused(ngpt, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    config = ngpt.GPTConfig()
    config.dropout = Hostile()
    ngpt.write_nvidia(tmp_path / "ckpt.pt", content={"config": config})
    assert "posix.system" in refusal(tmp_path / "ckpt.pt", UnsafeFile)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_random_states_of_both_numpys_are_read(module, ngpt, tmp_path):
    ngpt.write_nvidia(tmp_path / "written.pt")
    with zipfile.ZipFile(tmp_path / "written.pt") as was, zipfile.ZipFile(tmp_path / "ckpt.pt", "w") as now:
        for info in was.infolist():
            data = was.read(info)
            now.writestr(info.filename, re.sub(rb"numpy\._?core\.multiarray", module, data))
            assert b"_reconstruct" in data or not info.filename.endswith("data.pkl")
    assert open_checkpoint(tmp_path / "ckpt.pt").config["model_type"] == "ngpt-nvidia"


@pytest.mark.parametrize(
    ("content", "words", "kind"),
    [
        ({"model": None}, "holds no `model`", CoverageRefused),
        ({"model": {}}, "without tensors", CoverageRefused),
        ({"model": [1]}, "holds a list, expected a state dict", UnsafeFile),
        ({"model_args": None}, "holds no `model_args`", ConfigRefused),
        ({"model_args": [1, 2]}, "holds no `model_args`", ConfigRefused),
        ({"model_args": {"use_nGPT": 1, "n_head": [4]}}, "model_args.n_head of type list", ConfigRefused),
        ({"more": torch.nn.Linear(1, 1)}, "torch.nn.modules.linear.Linear", UnsafeFile),
    ],
    ids=str,
)
def test_broken_files_of_nvidia(content, words, kind, ngpt, tmp_path):
    ngpt.write_nvidia(tmp_path / "ckpt.pt", content=content)
    assert words in refusal(tmp_path / "ckpt.pt", kind)


def test_state_dicts_that_no_dialect_or_two_would_take(ngpt, tmp_path):
    tutorial = ngpt.write_tutorial(tmp_path / "t.pt")
    nvidia = ngpt.write_nvidia(tmp_path / "n.pt")
    torch.save(tutorial | nvidia, tmp_path / "both.pt")
    assert "tensors of ngpt-nvidia and of ngpt-tutorial" in refusal(tmp_path / "both.pt", ConfigRefused)
    torch.save({"decoder.weight": torch.ones(2, 2)}, tmp_path / "none.pt")
    said = refusal(tmp_path / "none.pt", ConfigRefused)
    assert (
        "none of ngpt-" in said and "ngpt-nvidia, ngpt-olmo, ngpt-tutorial" in said and "config.json beside it" in said
    )


def test_a_bare_state_dict_of_nvidia_needs_a_config(ngpt, tmp_path):
    weights = ngpt.write_nvidia(tmp_path / "n" / "ckpt.pt")
    (tmp_path / "n" / "ckpt.pt").unlink()
    torch.save(weights, tmp_path / "n" / "model.pt")
    from converters.plan.options import Options
    from converters.plan.plan import make_plan

    with pytest.raises(ConfigRefused, match="base_scale is missing"):
        make_plan(tmp_path / "n" / "model.pt", options=Options(n_head=4))
    config = {"model_type": "ngpt-nvidia", **ngpt.nvidia_args(), "dtype": "float32"}
    (tmp_path / "n" / "config.json").write_text(json.dumps(config))
    assert make_plan(tmp_path / "n" / "model.pt").family == "ngpt-nvidia"


@pytest.mark.parametrize("content", [[torch.ones(2)], {"a": torch.ones(2), "b": 3}, {}, torch.ones(3)], ids=str)
def test_what_is_no_state_dict_is_said_to_be_none(content, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    said = refusal(tmp_path / "x.pt")
    assert any(words in said for words in ("expected a state dict", "expected tensors by name", "holds no tensors"))


def test_a_state_dict_that_is_cut_short_is_named(ngpt, tmp_path):
    ngpt.write_tutorial(tmp_path / "model.pt")
    data = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(data[: len(data) // 2])
    assert "model.pt is not a valid torch file" in refusal(tmp_path / "model.pt", UnsafeFile)
