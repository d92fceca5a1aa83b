"""Files of the Hub that transformers loads and that another program wrote: headers, indices, names of keys, pickles."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from converters import convert
from converters.alignment import equal_folders
from converters.checkpoint.opening import open_checkpoint
from converters.errors import ConfigRefused, CoverageRefused, Refused, UnsafeFile
from converters.plain_copy import write_plain
from converters.sample import write_sample
from golden import compare
from golden.models.hot import make_hot

INDEX = "model.safetensors.index.json"


@pytest.fixture
def source(tmp_path):
    return write_sample(tmp_path / "source")


def both_ways(source, place, family="llama"):
    ours = convert(source, output=place / "ours").output
    back = convert(ours, to=family, output=place / "back").output
    assert equal_folders(source, back) == []
    plain = write_plain(open_checkpoint(source), place / "plain")
    assert compare(ours, plain, levels=["L0", "L1", "L2"]).verdict == "PASS"
    return ours, back


def put(source, tensors):
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})


def say(source, **fields):
    path = source / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("metadata", [None, {}, ...], ids=["null", "empty", "absent"])
def test_metadata_of_a_header_may_be_nothing(metadata, source, tmp_path):
    file = source / "model.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = {name: value for name, value in json.loads(data[8 : 8 + length]).items() if name != "__metadata__"}
    header = header if metadata is ... else {"__metadata__": metadata, **header}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    both_ways(source, tmp_path)


@pytest.mark.parametrize("metadata", ["3", "[]", '{"a": 1}', '{"a": null}'])
def test_metadata_of_another_kind_is_refused(metadata, source, tmp_path):
    text = f'{{"__metadata__": {metadata}}}'.encode()
    (source / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(UnsafeFile, match="__metadata__ is not an object of strings"):
        convert(source, output=tmp_path / "ours")


def index(source, **more):
    keys = load_file(source / "model.safetensors")
    weight_map = {**dict.fromkeys(keys, "model.safetensors"), **more}
    (source / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def test_an_index_of_the_one_file_beside_it(source, tmp_path):
    index(source)
    both_ways(source, tmp_path)


@pytest.mark.parametrize(
    "stale", [{"model.norm.weight": "model-1.safetensors"}, {"model.norm.bias": "model.safetensors"}]
)
def test_an_index_that_says_something_else_than_the_one_file_is_refused(stale, source, tmp_path):
    index(source, **stale)
    with pytest.raises(UnsafeFile, match=r"remove the old one|no shard holds it"):
        convert(source, output=tmp_path / "ours")


def test_a_tied_head_that_is_listed_and_not_stored(source, tmp_path):
    tensors = load_file(source / "model.safetensors")
    del tensors["lm_head.weight"]
    put(source, tensors)
    index(source, **{"lm_head.weight": "model.safetensors"})
    with pytest.raises(UnsafeFile, match=r"'lm_head\.weight' is in model\.safetensors, but no shard holds it"):
        convert(source, output=tmp_path / "no")
    say(source, tie_word_embeddings=True)
    both_ways(source, tmp_path)


@pytest.mark.parametrize("prefix", ["base_model.model.", "model.", "language_model.", "module.base_model.model."])
@pytest.mark.parametrize("tied", [False, True])
def test_a_prefix_before_all_keys(prefix, tied, source, tmp_path):
    tensors = load_file(source / "model.safetensors")
    if tied:
        del tensors["lm_head.weight"]
        say(source, tie_word_embeddings=True)
    put(source, {prefix + key: tensor for key, tensor in tensors.items()})
    _, back = both_ways(source, tmp_path)
    assert all(key.startswith(prefix) for key in load_file(back / "model.safetensors"))


def test_a_prefix_before_some_keys_is_refused(source, tmp_path):
    tensors = load_file(source / "model.safetensors")
    put(source, {("x." if "layers.1" in key else "") + key: tensor for key, tensor in tensors.items()})
    with pytest.raises(CoverageRefused, match=r"x\.model\.layers\.1"):
        convert(source, output=tmp_path / "ours")


def test_a_spoiled_prefix_is_refused(source, tmp_path):
    ours = convert(source, output=tmp_path / "ours").output
    for spoiled in (
        {"foreign": "../"},
        {"foreign": 3},
        {"renamed": {"lm_head.weight": "model.norm.weight"}},
        {"renamed": 3},
    ):
        config = json.loads((ours / "config.json").read_text())
        config["converted_from"]["keys"] = spoiled
        (ours / "config.json").write_text(json.dumps(config))
        with pytest.raises(ConfigRefused, match=r"converted_from\.keys"):
            convert(ours, to="llama", output=tmp_path / "back")


def trained_state(source):
    """A state dict of parameters that a trainer marked, which torch saves with that state."""
    found = {}
    for key, tensor in load_file(source / "model.safetensors").items():
        found[key] = torch.nn.Parameter(tensor)
        found[key].tensor_model_parallel = True
    return found


@pytest.mark.parametrize("legacy", [False, True])
def test_parameters_with_marks_of_a_trainer(legacy, source, tmp_path):
    torch.save(trained_state(source), source / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    assert legacy or b"_rebuild_parameter_with_state" in (source / "pytorch_model.bin").read_bytes()
    (source / "model.safetensors").unlink()
    both_ways(source, tmp_path)


def test_the_head_of_the_first_gpt2_in_pytorch(tmp_path):
    source = make_hot("gpt2", tmp_path / "source", tie_word_embeddings=True)
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.decoder.weight"] = tensors["transformer.wte.weight"].clone()
    put(source, tensors)
    _, back = both_ways(source, tmp_path, "gpt2")
    assert "lm_head.decoder.weight" in load_file(back / "model.safetensors")


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_a_tied_head_that_is_stored_in_place_of_the_embedding(family, tmp_path):
    source = make_hot(family, tmp_path / "source", tie_word_embeddings=True)
    before = AutoModelForCausalLM.from_pretrained(source).state_dict()
    name = "transformer.wte.weight" if family == "gpt2" else "model.embed_tokens.weight"
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"] = tensors.pop(name)
    put(source, tensors)
    loaded = AutoModelForCausalLM.from_pretrained(source).state_dict()
    assert all(torch.equal(before[key], loaded[key]) for key in before), "transformers ties it the other way round"
    _, back = both_ways(source, tmp_path, family)
    assert name not in load_file(back / "model.safetensors")


def test_an_untied_model_without_an_embedding_is_refused(source, tmp_path):
    tensors = load_file(source / "model.safetensors")
    del tensors["model.embed_tokens.weight"]
    put(source, tensors)
    with pytest.raises(Refused, match=r"model\.embed_tokens\.weight"):
        convert(source, output=tmp_path / "ours")


def test_a_model_that_was_untied_since_has_both_tensors_again(tmp_path):
    source = make_hot("llama", tmp_path / "source", tie_word_embeddings=True)
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    put(source, tensors)
    ours = convert(source, output=tmp_path / "ours").output
    state = load_file(ours / "model.safetensors")
    state["layers.4.linear.weight"] = 2 * state["layers.0.wte.weight"]
    put(ours, state)
    say(ours, tie_word_embeddings=False)
    back = load_file(convert(ours, to="llama", output=tmp_path / "back").output / "model.safetensors")
    assert torch.equal(back["lm_head.weight"], 2 * back["model.embed_tokens.weight"])
