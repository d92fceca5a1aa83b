"""What people do with checkpoints, and the sentence that they get: what was found, and what to do."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from converters import convert
from converters.errors import ConversionError
from converters.sample import write_sample
from golden.models.hot import make_hot

CONVERT = [sys.executable, "-c", "from cli.main import main; main()"]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d" * 32 + "\nsize 9876543210\n"


def run(*words, cwd):
    return subprocess.run([*CONVERT, *map(str, words)], capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture
def source(tmp_path):
    return write_sample(tmp_path / "source")


def refusal(source) -> str:
    with pytest.raises(ConversionError) as refused:
        convert(source, output=source.parent / "ours")
    assert refused.value.exit_code == 3 and not (source.parent / "ours").exists()
    return str(refused.value)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "pytorch_model.bin"])
def test_a_git_lfs_pointer(name, source):
    if name == "pytorch_model.bin":
        (source / "model.safetensors").unlink()
    (source / name).write_text(POINTER)
    said = refusal(source)
    assert f"{name} is a git-lfs pointer to the file of 9,876,543,210 bytes" in said and "git lfs pull" in said


def test_a_pointer_in_place_of_a_file_of_its_own(tmp_path):
    (tmp_path / "model.gguf").write_text(POINTER)
    done = run("llama", "model.gguf", "--to", "mixformer", cwd=tmp_path)
    assert done.returncode == 3 and "git-lfs pointer" in done.stderr


def test_a_small_file_that_speaks_of_git_lfs_is_no_pointer(source):
    (source / "LICENSE").write_text("see https://git-lfs.github.com/spec/v1\n")
    convert(source, output=source.parent / "ours")


def sharded(source, names):
    tensors = list(load_file(source / "model.safetensors").items())
    (source / "model.safetensors").unlink()
    for k, name in enumerate(names):
        save_file(dict(tensors[k :: len(names)]), source / name)


def test_shards_without_an_index(source):
    sharded(source, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
    said = refusal(source)
    assert "model-00001-of-00002.safetensors is a shard, and model.safetensors.index.json is missing" in said
    assert "copy it there" in said and "are missing" not in said


def test_some_shards_without_an_index(source):
    sharded(source, ["model-00001-of-00004.safetensors", "model-00003-of-00004.safetensors"])
    assert "of 4 shards 2, 4 are missing" in refusal(source)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"])
def test_a_link_to_nothing_is_half_a_download(name, source):
    (source / "model.safetensors").unlink()
    (source / name).symlink_to(source / "blobs" / "0123")
    assert f"{name} is a link to a file that does not exist: the download is not complete" in refusal(source)


def test_a_shard_that_is_a_link_to_nothing(source):
    sharded(source, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
    keys = {f"model-0000{k}-of-00002.safetensors": k for k in (1, 2)}
    weight_map = {key: name for name in keys for key in load_file(source / name)}
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (source / "model-00002-of-00002.safetensors").unlink()
    (source / "model-00002-of-00002.safetensors").symlink_to("gone")
    assert "model-00002-of-00002.safetensors is a link to a file that does not exist" in refusal(source)


@pytest.mark.parametrize("config", [True, False])
def test_the_form_of_mistral_alone(config, source):
    (source / "model.safetensors").rename(source / "consolidated.safetensors")
    (source / "params.json").write_text(json.dumps({"dim": 96, "n_layers": 3, "n_heads": 4}))
    if not config:
        (source / "config.json").unlink()
    said = refusal(source)
    assert "consolidated.safetensors is in Mistral's own form" in said and "truncated" not in said


OTHERS = {
    "tf_model.h5": "from_tf=True",
    "flax_model.msgpack": "from_flax=True",
    "model.onnx": "ONNX",
    "model.pkl": "may run code",
    "last.ckpt": "state dict as safetensors",
    "weights.pt": "a form that cannot be read",
}


@pytest.mark.parametrize("name", OTHERS)
def test_weights_of_other_programs(name, source):
    (source / "model.safetensors").unlink()
    (source / name).write_bytes(b"x" * 64)
    said = refusal(source)
    assert name in said and OTHERS[name] in said


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("around", ["model", "model_state_dict", "module"])
def test_a_dict_around_all_tensors(around, legacy, source):
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    torch.save({around: tensors, "epoch": 3}, source / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    said = refusal(source)
    assert f"torch.save(torch.load('pytorch_model.bin')['{around}'], 'pytorch_model.bin')" in said


def test_a_wrapper_that_nobody_knows_around_all_keys(source):
    tensors = load_file(source / "model.safetensors")
    save_file(
        {f"student.{key.removeprefix('model.')}": tensor for key, tensor in tensors.items()},
        source / "model.safetensors",
    )
    assert "All keys begin with 'student.', which this family does not have" in refusal(source)


def test_the_name_of_a_form_is_taken_as_a_verb(tmp_path):
    done = run("llama2c", "nothing.bin", "--to", "mixformer", cwd=tmp_path)
    assert done.returncode == 2 and "nothing.bin does not exist" in done.stderr
    assert "llama2c" not in run("--help", cwd=tmp_path).stdout
    source = write_sample(tmp_path / "source")
    done = run("nanogpt", source, "--to", "mixformer", cwd=tmp_path)
    assert done.returncode == 2 and "is a llama checkpoint" in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("llama", "--to", "gpt2"), 3),
        (("llama", "--to", "llama"), 2),
        (("mixformer", "--to", "gpt2"), 3),
        (("llama", "--to", "mixformer", "--waive", "x"), 3),
        (("ngpt", "--to", "llama"), 3),
    ],
)
def test_a_run_that_wrote_nothing_leaves_no_sample(words, code, tmp_path):
    done = run(*words, "--no-parity", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_sample_that_was_there_stays(tmp_path):
    write_sample(tmp_path / "llama-sample")
    run("llama", "--to", "gpt2", "--no-parity", cwd=tmp_path)
    assert (tmp_path / "llama-sample" / "model.safetensors").is_file()


TOLD = {"llama2c": "; --format native writes model.bin", "llama-meta": "which programs for llama-meta do not read"}


@pytest.mark.parametrize("to", TOLD)
def test_a_form_that_is_written_as_safetensors_is_told(to, tmp_path):
    make_hot("llama", tmp_path / "source", head_dim=12)
    done = run("llama", "source", "--to", to, "-o", "out", "--no-parity", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"written as safetensors with the key names of {to}" in done.stdout and TOLD[to] in done.stdout


def test_a_native_file_is_no_safetensors(tmp_path):
    make_hot("llama", tmp_path / "source", head_dim=12)
    done = run("llama", "source", "--to", "llama2c", "--format", "native", "-o", "out", "--no-parity", cwd=tmp_path)
    assert done.returncode == 0 and "safetensors" not in done.stdout
