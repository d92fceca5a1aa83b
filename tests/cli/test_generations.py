"""A MixFormer of another generation, or kept by torch.save, is inspected and judged from the command line."""

import json

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from cli.main import app
from converters import convert
from converters.sample import write_sample


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def kept(tmp_path):
    """A Phi, and its MixFormer as the first generation wrote it, by torch.save."""
    phi = write_sample(tmp_path / "phi", "phi")
    ours = convert(phi, output=tmp_path / "ours").output
    config, tensors = json.loads((ours / "config.json").read_text()), load_file(ours / "model.safetensors")
    norm, mixer = config["architecture"]["norm"], config["architecture"]["mixer"]
    config["architecture"] = {"block_cls": "parallel", "mixer": {}, "mlp": {"mlp_cls": "mlp"}}
    config |= {"layer_norm_epsilon": norm["eps"], "rotary_dim": mixer["rotary_dim"]}
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "converted_from"}))
    torch.save({f"module.{key}": tensor for key, tensor in tensors.items()}, folder / "pytorch_model.bin")
    return folder


def test_inspect_names_the_generation_and_shows_keys_as_stored(kept):
    text = run("inspect", kept).stdout
    assert "the first generation of MixFormer (`mixer: {}`)" in text
    assert "module.layers.{1..3}.mixer.Wqkv.weight" in text
    assert "module.layers.1.mixer.Wqkv.weight" in run("inspect", kept, "--all").stdout
    content = json.loads(run("inspect", kept, "--json").stdout)
    assert content["generation"] == "first"
    assert content["config"]["architecture"]["mixer"] == {"mixer_cls": "mha"}
    assert json.loads(run("inspect", kept.parent / "ours", "--json").stdout)["generation"] == "sdk"
    assert "generation" not in json.loads(run("inspect", kept.parent / "phi", "--json").stdout)


def test_it_is_judged_as_a_reference_and_as_a_candidate(kept, tmp_path):
    made = run("mixformer", kept, "--to", "phi", "-o", tmp_path / "made", "--no-parity")
    assert made.exit_code == 0, made.output
    right = run("parity", tmp_path / "made", "--reference", kept, "--levels", "L1,L2", "--json")
    assert right.exit_code == 0, right.output
    verdict = json.loads(right.stdout)
    assert (verdict["candidate"], verdict["reference"]) == (str(tmp_path / "made"), str(kept))
    assert run("parity", kept, "--reference", tmp_path / "made", "--levels", "L1,L2").exit_code == 0
    tensors = torch.load(kept / "pytorch_model.bin", weights_only=True)
    tensors["module.layers.1.mlp.fc1.weight"][3, 4] += 1.0
    torch.save(tensors, kept / "pytorch_model.bin")
    assert run("parity", tmp_path / "made", "--reference", kept, "--levels", "L1,L2").exit_code == 4
    assert run("parity", kept, "--reference", tmp_path / "made", "--levels", "L1,L2").exit_code == 4
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
