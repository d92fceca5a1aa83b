"""Folders of torch.distributed.checkpoint: whole and in pieces, equal to what they were saved from; nothing is run."""

import io
import os
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch.distributed.checkpoint.metadata import MetadataIndex

from converters import convert
from converters.checkpoint.opening import open_checkpoint
from converters.errors import ConfigRefused, CoverageRefused, Refused, UnsafeFile
from converters.plan.plan import make_plan
from golden import compare


def saved(content, folder, source):
    """A folder saved by one process, with the config.json of a model folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(content, checkpoint_id=str(folder))
    shutil.copy(source / "config.json", folder / "config.json")
    return folder


@pytest.fixture(scope="module")
def hot(hot_llama):
    return hot_llama(hidden_size=45, num_attention_heads=9, num_key_value_heads=3, head_dim=6)


@pytest.fixture(scope="module")
def mixformer(hot, tmp_path_factory):
    return convert(hot, output=tmp_path_factory.mktemp("ours") / "ours").output


@pytest.fixture(scope="module")
def sharded(hot, mixformer, tmp_path_factory):
    """Family -> a folder that three processes saved."""
    place = tmp_path_factory.mktemp("sharded")
    found = {}
    for name, source in (("llama", hot), ("mixformer", mixformer)):
        script = Path(__file__).with_name("distributed_save.py")
        subprocess.run([sys.executable, "-W", "ignore", script, source, place / name, "3"], check=True)
        shutil.copy(source / "config.json", place / name / "config.json")
        found[name] = place / name
    return found


@pytest.mark.parametrize("wrap", [lambda w: {"model": w, "step": 3}, lambda w: w, lambda w: {"state_dict": w}])
def test_whole_tensors_are_read_where_they_lie(wrap, hot, tmp_path):
    folder = saved(wrap(load_file(hot / "model.safetensors")), tmp_path / "dcp", hot)
    source = open_checkpoint(folder)
    assert source.unpack is None and {tensor.file.name for tensor in source.tensors.values()} == {"__0_0.distcp"}
    ours = convert(folder, output=tmp_path / "ours").output
    straight = convert(hot, output=tmp_path / "straight").output
    assert same_tensors(ours, straight)


@pytest.mark.parametrize("name", ["llama", "mixformer"])
def test_pieces_of_three_processes_come_together(name, sharded, hot, mixformer, tmp_path):
    there = {"llama": "mixformer", "mixformer": "llama"}[name]
    report = convert(sharded[name], to=there, output=tmp_path / "out")
    assert same_tensors(report.output, {"llama": mixformer, "mixformer": hot}[name])
    assert any("trainer's state" in note for note in report.notes)
    assert compare(report.output, sharded[name]).verdict == "PASS"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    plan = make_plan(sharded[name], to=there)  # from headers alone
    assert plan.nbytes == sum(tensor.nbytes for tensor in plan.source.tensors.values())


def test_a_wrong_weight_beside_such_a_folder_is_found(sharded, tmp_path):
    ours = convert(sharded["llama"], output=tmp_path / "ours").output
    data = bytearray((ours / "model.safetensors").read_bytes())
    data[-2] ^= 0x40
    (ours / "model.safetensors").write_bytes(data)
    verdict = compare(ours, sharded["llama"], levels=["L1", "L2"])
    assert [verdict.level(name).status for name in ("L1", "L2")] == ["FAIL", "FAIL"]


def same_tensors(one, other):
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


class Runs:
    """An object whose pickle makes a folder when it is loaded."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def metadata_of(folder):
    return pickle.loads((folder / ".metadata").read_bytes())


def rewritten(folder, change):
    """The folder with its `.metadata` changed by a function."""
    content = metadata_of(folder)
    change(content)
    (folder / ".metadata").write_bytes(pickle.dumps(content))
    return folder


def _first(content):
    """The first tensor of the embedding's kind, and where it lies."""
    name = "model.model.embed_tokens.weight"
    index = MetadataIndex(name, torch.Size([0, 0]))
    return name, content.state_dict_metadata[name], index, content.storage_data[index]


def _elsewhere(content):
    _, _, index, info = _first(content)
    content.storage_data[index] = replace(info, relative_path="../outside.distcp")


def _missing(content):
    _, _, index, info = _first(content)
    content.storage_data[index] = replace(info, relative_path="__9_0.distcp")


def _beyond(content):
    _, _, index, info = _first(content)
    content.storage_data[index] = replace(info, offset=2**40)


def _larger(content):
    _, tensor, _, _ = _first(content)
    tensor.size = torch.Size([10**9, 45])


def _twice(content):
    _, tensor, _, _ = _first(content)
    tensor.chunks.append(tensor.chunks[0])


def _other_tensor(content):
    _, _, index, _ = _first(content)
    other = next(i for i in content.storage_data if i.fqn.endswith("norm.weight"))
    content.storage_data[index] = content.storage_data[other]


def _compressed(content):
    _, _, index, info = _first(content)
    content.storage_data[index] = replace(info, transform_descriptors=["zstd"])


def _negative(content):
    _, tensor, _, _ = _first(content)
    tensor.size = (-1, 45)


BROKEN = {
    "the name of a .distcp file beside it": _elsewhere,
    "__9_0.distcp is missing": _missing,
    "are not in the file": _beyond,
    "do not fill it": _larger,
    "do not fill it: ": _twice,
    r"METADATA|\.metadata says": _other_tensor,
    "is compressed": _compressed,
    "non-negative integers": _negative,
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_folder_that_contradicts_itself_is_refused(reason, hot, tmp_path):
    folder = saved({"model": load_file(hot / "model.safetensors")}, tmp_path / "dcp", hot)
    with pytest.raises(UnsafeFile, match=reason):
        convert(rewritten(folder, BROKEN[reason]), output=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["dcp"]


def _planted(content, trace):
    content.planner_data = Runs(trace)


def _instead(content, trace):
    content.storage_meta = [Runs(trace)]


@pytest.mark.parametrize("plant", [_planted, _instead])
def test_code_in_the_metadata_is_not_run(plant, hot, tmp_path):
    folder, trace = saved({"model": load_file(hot / "model.safetensors")}, tmp_path / "dcp", hot), tmp_path / "trace"
    rewritten(folder, lambda content: plant(content, trace))
    metadata_of(folder)
    assert trace.is_dir(), "the control: pickle itself does run it"
    trace.rmdir()
    for do in (open_checkpoint, convert, lambda path: compare(hot, path, levels=["L0"])):
        with pytest.raises(Exception, match=r"asks for (posix|nt)\.mkdir"):
            do(folder)
    assert not trace.exists()


def test_code_in_a_piece_is_not_run(hot, tmp_path):
    folder, trace = saved({"model": load_file(hot / "model.safetensors")}, tmp_path / "dcp", hot), tmp_path / "trace"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Runs(trace), protocol=2))
    (folder / "__1_0.distcp").write_bytes(data.getvalue())

    def plant(content):
        _, _, index, info = _first(content)
        content.storage_data[index] = replace(info, relative_path="__1_0.distcp", offset=0, length=len(data.getvalue()))

    with pytest.raises(UnsafeFile, match=r"asks for (posix|nt)\.mkdir"):
        convert(rewritten(folder, plant), output=tmp_path / "out")
    assert not trace.exists() and not (tmp_path / "out").exists()


def test_cut_and_empty_metadata_are_refused(hot, tmp_path):
    folder = saved({"model": load_file(hot / "model.safetensors")}, tmp_path / "dcp", hot)
    whole = (folder / ".metadata").read_bytes()
    for length in (0, 1, 20, len(whole) // 2, len(whole) - 1):
        (folder / ".metadata").write_bytes(whole[:length])
        with pytest.raises(UnsafeFile, match=r"\.metadata"):
            open_checkpoint(folder)


def test_a_folder_without_config_or_without_a_model_says_so(hot, tmp_path):
    folder = saved({"model": load_file(hot / "model.safetensors")}, tmp_path / "dcp", hot)
    (folder / "config.json").rename(tmp_path / "config.json")
    assert open_checkpoint(folder).tensors  # the folder above has it
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigRefused, match=r"config\.json"):
        open_checkpoint(folder)
    alone = saved({"optimizer": {"x": torch.zeros(3)}}, tmp_path / "optimizer", hot)
    with pytest.raises(CoverageRefused, match="no tensors of a model"):
        open_checkpoint(alone)


def test_missing_tensors_are_named(hot, tmp_path):
    weights = load_file(hot / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    folder = saved({"model": weights}, tmp_path / "dcp", hot)
    with pytest.raises(Refused, match=r"model\.layers\.1\.mlp\.up_proj\.weight is missing"):
        convert(folder, output=tmp_path / "out")
