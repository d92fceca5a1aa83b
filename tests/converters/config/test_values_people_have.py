"""Values that config.json files of the Hub have and a config class of today would not write: read, and given back."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from converters import convert
from converters.alignment import equal_folders
from converters.checkpoint.opening import open_checkpoint
from converters.errors import ConfigRefused
from converters.family import get_family
from converters.family_of import family_of
from converters.plain_copy import is_plain, write_plain
from converters.sample import write_sample
from golden import compare
from golden.models.hot import make_hot

GONE = object()


def changed(folder, **fields):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not GONE}))
    return folder


def both_ways(source, family, place):
    ours = convert(source, family, output=place / "ours").output
    back = convert(ours, to=family, output=place / "back").output
    assert json.loads((back / "config.json").read_text()) == json.loads((source / "config.json").read_text())
    assert equal_folders(source, back) == []
    return json.loads((ours / "config.json").read_text())


CLASSES = {
    "FSDP": ["FSDPLlamaForCausalLM"],
    "DDP around FSDP": ["DDPFSDPLlamaForCausalLM"],
    "LLaMA's first name": ["LLaMAForCausalLM"],
    "two": ["LlamaForCausalLM", "LlamaModel"],
    "none": [],
    "null": None,
    "absent": GONE,
}
OTHER_CLASSES = (
    ["Eagle3LlamaForCausalLM"],
    ["LlamaForCausalLMEagle3"],
    ["LlamaForCausalLM", "LlamaForSequenceClassification"],
    ["FSDP"],
    "LlamaForCausalLM",
    [3],
)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_however_it_is_wrapped(name, tmp_path):
    source = changed(write_sample(tmp_path / "source"), architectures=CLASSES[name])
    both_ways(source, "llama", tmp_path)


@pytest.mark.parametrize("classes", OTHER_CLASSES, ids=str)
def test_another_class_is_refused(classes, tmp_path):
    source = changed(write_sample(tmp_path / "source"), architectures=classes)
    with pytest.raises(ConfigRefused, match="architectures is"):
        convert(source, "llama", output=tmp_path / "ours")


def test_a_wrapped_class_tells_the_family_where_no_type_does(tmp_path):
    source = changed(write_sample(tmp_path / "source"), architectures=["FSDPLlamaForCausalLM"], model_type=GONE)
    assert convert(source, output=tmp_path / "ours").family == "llama"


@pytest.mark.parametrize("name", ["bos_token_id", "eos_token_id", "pad_token_id"])
def test_a_token_id_of_minus_one_is_none(name, tmp_path):
    ours = both_ways(changed(write_sample(tmp_path / "source"), **{name: -1}), "llama", tmp_path)
    assert ours[name] is None
    with pytest.raises(ConfigRefused, match=f"{name} is -2"):
        convert(changed(tmp_path / "source", **{name: -2}), output=tmp_path / "no")


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "phi", "phi3", "mistral"])
def test_no_number_of_key_value_heads_is_that_of_all_heads(family, tmp_path):
    source = make_hot(family, tmp_path / "source", num_key_value_heads=4)
    both_ways(changed(source, num_key_value_heads=None), family, tmp_path)
    assert json.loads((tmp_path / "ours/config.json").read_text())["architecture"]["mixer"]["n_head_kv"] == 4


WORDS = {"auto": None, "torch.float32": "float32", "float": "float32", "float32": "float32", None: None}


@pytest.mark.parametrize("field", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("word", WORDS)
def test_a_dtype_in_other_words(word, field, tmp_path):
    source = changed(write_sample(tmp_path / "source"), dtype=GONE)
    ours = both_ways(changed(source, **{field: word}), "llama", tmp_path)
    assert ours["dtype"] == WORDS[word]


@pytest.mark.parametrize("word", ["auto", "torch.float32"])
def test_a_verdict_on_a_dtype_that_transformers_does_not_know(word, tmp_path):
    source = changed(write_sample(tmp_path / "source"), dtype=GONE, torch_dtype=word)
    ours = convert(source, output=tmp_path / "ours").output
    assert not is_plain(open_checkpoint(source))
    plain = write_plain(open_checkpoint(source), tmp_path / "plain")
    assert compare(ours, plain, levels=["L0", "L2"]).verdict == "PASS"


def test_a_dtype_of_no_kind_is_refused(tmp_path):
    source = changed(write_sample(tmp_path / "source"), dtype="bf16x3")
    with pytest.raises(ConfigRefused, match="dtype is 'bf16x3'"):
        convert(source, output=tmp_path / "ours")


def unnamed(place):
    """A GPT-2 with sizes alone, as config.json was in 2019."""
    source = make_hot("gpt2", place)
    config = json.loads((source / "config.json").read_text())
    names = ("vocab_size", "n_positions", "n_ctx", "n_embd", "n_layer", "n_head", "layer_norm_epsilon")
    sizes = {"n_ctx": config["n_positions"], **{name: config[name] for name in names if name in config}}
    tensors = load_file(source / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if k != "lm_head.weight"}, source / "model.safetensors")
    (source / "config.json").write_text(json.dumps(sizes))
    return source


def test_a_config_without_a_type_is_of_the_family_that_is_named(tmp_path):
    source = unnamed(tmp_path / "source")
    assert both_ways(source, "gpt2", tmp_path)["model_type"] == "mixformer-sequential"
    plain = write_plain(open_checkpoint(source), tmp_path / "plain", "gpt2")
    assert compare(tmp_path / "ours", plain, levels=["L0", "L1", "L2"]).verdict == "PASS"


def test_a_config_without_a_type_is_refused_where_nobody_names_it(tmp_path):
    source = unnamed(tmp_path / "source")
    with pytest.raises(ConfigRefused, match="convert FAMILY SOURCE"):
        convert(source, output=tmp_path / "ours")
    with pytest.raises(ConfigRefused, match="hidden_size is missing"):
        convert(source, "llama", output=tmp_path / "ours")


def test_a_change_of_a_config_without_a_type_is_a_difference(tmp_path):
    one, other = unnamed(tmp_path / "one"), unnamed(tmp_path / "other")
    assert equal_folders(one, other) == []
    changed(other, n_head=8)
    assert equal_folders(one, other) == ["config.json: n_head is 4 and 8"]


def test_a_type_that_is_said_wins_over_the_name(tmp_path):
    source = write_sample(tmp_path / "source")
    assert family_of(json.loads((source / "config.json").read_text()), "gpt2") == "llama"


def test_the_way_to_gpt2_says_n_ctx_and_gives_back_another(tmp_path):
    """llama.cpp reads it, and has no default for it."""
    source = make_hot("gpt2", tmp_path / "source")
    assert "n_ctx" not in json.loads((source / "config.json").read_text())
    both_ways(source, "gpt2", tmp_path)
    ours = json.loads((tmp_path / "ours/config.json").read_text())
    assert get_family("gpt2").config.to_theirs({**ours, "converted_from": {}}, "gpt2")["n_ctx"] == 160
    (tmp_path / "again").mkdir()
    both_ways(changed(source, n_ctx=1024), "gpt2", tmp_path / "again")


MAPS = {
    "phi": {"AutoConfig": "configuration_phi.PhiConfig", "AutoModelForCausalLM": "modeling_phi.PhiForCausalLM"},
    "phi3": {
        "AutoConfig": "org/name--configuration_phi3.Phi3Config",
        "AutoModel": "org/name--modeling_phi3.Phi3Model",
        "AutoModelForCausalLM": "org/name--modeling_phi3.Phi3ForCausalLM",
        "AutoModelForSequenceClassification": "org/name--modeling_phi3.Phi3ForSequenceClassification",
        "AutoTokenizer": ["tokenization_x.Slow", None],
    },
}
OTHER_MAPS = (
    {"AutoModelForCausalLM": "modeling_evil.Evil"},
    {"AutoModelForCausalLM": "modeling_flash_phi3.Phi3ForCausalLM"},
    {"AutoModelForCausalLM": "modeling_phi3.Phi3SmallForCausalLM"},
    {"AutoConfig": "configuration_phi3_v.Phi3VConfig"},
    {"AutoModelForCausalLM": ["modeling_phi3.Phi3ForCausalLM"]},
    "modeling_phi3.Phi3ForCausalLM",
)


@pytest.mark.parametrize("family", MAPS)
def test_code_that_transformers_has_under_the_same_name(family, tmp_path):
    source = changed(make_hot(family, tmp_path / "source"), auto_map=MAPS[family])
    both_ways(source, family, tmp_path)
    assert compare(tmp_path / "ours", source, levels=["L0", "L2"]).verdict == "PASS"


@pytest.mark.parametrize("auto_map", OTHER_MAPS, ids=str)
def test_other_code_is_refused_and_no_waiver_is_offered(auto_map, tmp_path):
    source = changed(make_hot("phi3", tmp_path / "source"), auto_map=auto_map)
    with pytest.raises(ConfigRefused, match="auto_map is") as refused:
        convert(source, output=tmp_path / "ours")
    assert "waive" not in str(refused.value)


def test_a_model_with_a_second_head_is_a_language_model_too(tmp_path):
    source = changed(make_hot("gpt2", tmp_path / "source"), architectures=["GPT2DoubleHeadsModel"])
    both_ways(source, "gpt2", tmp_path)
    assert torch.isfinite(load_file(tmp_path / "ours/model.safetensors")["layers.0.wte.weight"]).all()
