"""Checkpoints under torchtune's names: the function of the model that they were made of, in every form."""

import json
import shutil
import warnings
from dataclasses import replace

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

from converters import convert
from converters import family as registry
from converters.alignment import equal_folders
from converters.checkpoint.opening import TUNED, open_checkpoint
from converters.config import layout
from converters.errors import ConfigRefused, CoverageRefused, Refused, ShapeMismatch
from converters.plan.plan import make_plan
from golden import compare
from golden.conformance.mutations import mutations
from golden.conformance.planting import plant_family
from golden.models.hot import make_hot

FILE = "model-00001-of-00001.bin"
SIZES = {"hidden_size": 48, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 6}
EVEN = {**SIZES, "num_key_value_heads": 8}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
NAMES = {
    "self_attn.q_proj": "attn.q_proj",
    "self_attn.k_proj": "attn.k_proj",
    "self_attn.v_proj": "attn.v_proj",
    "self_attn.o_proj": "attn.output_proj",
    "mlp.gate_proj": "mlp.w1",
    "mlp.down_proj": "mlp.w2",
    "mlp.up_proj": "mlp.w3",
    "input_layernorm.weight": "sa_norm.scale",
    "post_attention_layernorm.weight": "mlp_norm.scale",
    "embed_tokens": "tok_embeddings",
    "lm_head": "output",
}
CASES = {
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, wide heads": ("llama", {"head_dim": 20, "num_key_value_heads": 2}),
    "llama 3.1": ("llama", {"rope_parameters": LLAMA3, "hidden_size": 96, "head_dim": 12}),
    "mistral": ("mistral", {"sliding_window": 24}),
    "qwen2": ("qwen2", {}),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True}),
}


def in_torchtune(source):
    """The weights of a folder by torchtune's names, the pairs of q and k put side by side but in Qwen2."""
    config, found = json.loads((source / "config.json").read_text()), {}
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for key, weight in load_file(source / "model.safetensors").items():
        count = next((heads[name] for name in heads if name in key), None)
        if count and config["model_type"] != "qwen2":
            halves = weight.view(count, 2, -1, weight.shape[1])
            weight = torch.stack((halves[:, 0], halves[:, 1]), 2).reshape(weight.shape)
        tune = key.removeprefix("model.").replace("norm.weight", "norm.scale" if ".norm." in key else "norm.weight")
        for theirs, name in NAMES.items():
            tune = tune.replace(theirs, name)
        found[tune] = weight.contiguous()
    return found


def write(source, folder, change=lambda weights: weights, **config):
    """The folder of an epoch, as a recipe leaves it: one file, the config.json, the adapter that was merged."""
    folder.mkdir(parents=True)
    said = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, **config}))
    torch.save(change(in_torchtune(source)), folder / FILE)
    torch.save({"layers.0.attn.q_proj.lora_a.weight": torch.ones(2, 2)}, folder / "adapter_model.pt")
    return folder


@pytest.fixture(scope="module")
def hot(tmp_path_factory):
    return make_hot("llama", tmp_path_factory.mktemp("tune") / "hot", **SIZES)


@pytest.mark.parametrize("case", CASES)
def test_they_are_one_function_both_ways(judged, case, equal_tensors, tmp_path):
    family, overrides = CASES[case]
    hot = make_hot(family, tmp_path / "hot", **(SIZES | overrides))
    tune = write(hot, tmp_path / "epoch_0")
    ours = convert(tune, family, output=tmp_path / "ours").output
    judged(ours, tune)
    judged(ours, hot, levels=["L2"])
    assert equal_tensors(convert(tune, to=family, output=tmp_path / "theirs").output, hot)
    back = convert(ours, to=f"{family}-torchtune", output=tmp_path / "back").output
    assert equal_folders(tune, back) == []
    assert load_file(back / "model.safetensors").keys() == in_torchtune(hot).keys()
    judged(ours, back)


def as_file(source, folder):
    return write(source, folder) / FILE


def as_compiled(source, folder):
    return write(source, folder, lambda weights: {f"_orig_mod.{key}": weight for key, weight in weights.items()})


def as_safetensors(source, folder):
    write(source, folder)
    (folder / FILE).unlink()
    save_file(in_torchtune(source), folder / "model.safetensors")
    return folder


def as_dcp(source, folder):
    write(source, folder)
    (folder / FILE).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": in_torchtune(source)}, checkpoint_id=str(folder))
    (folder / "adapter_model.pt").unlink()
    return folder


@pytest.mark.parametrize("form", [as_file, as_compiled, as_safetensors, as_dcp])
def test_the_names_are_known_in_every_form(judged, form, hot, equal_tensors, tmp_path):
    source = form(hot, tmp_path / "source")
    assert open_checkpoint(source).config["model_type"] == "llama-torchtune"
    ours = convert(source, "llama", output=tmp_path / "ours").output
    judged(ours, source)
    judged(ours, hot, levels=["L2"])
    assert equal_tensors(convert(source, to="llama", output=tmp_path / "theirs").output, hot)


def unturned(rule):
    """The rule of q, k and v without the move of rows."""
    return replace(rule, move=rule.move.moves[-1]) if rule.ours[0].endswith("Wqkv.weight") else rule


def exchanged(rule):
    """Queries for keys."""
    q, k, v = rule.theirs if rule.ours[0].endswith("Wqkv.weight") else (None, None, None)
    return replace(rule, theirs=(k, q, v)) if q else rule


def gate_for_up(rule):
    """The activated half of the MLP for the other."""
    return replace(rule, theirs=rule.theirs[::-1]) if rule.ours[0].endswith("fc1.weight") else rule


def norms_exchanged(rule):
    """The norm of attention for that of the MLP."""
    other = {"layers.{i}.sa_norm.scale": "layers.{i}.mlp_norm.scale"}
    other |= {new: old for old, new in other.items()}
    return replace(rule, theirs=(other.get(rule.theirs[0], rule.theirs[0]), *rule.theirs[1:]))


@pytest.mark.parametrize("fault", [unturned, exchanged, gate_for_up, norms_exchanged])
def test_a_wrong_rule_is_found_by_the_function(fault, tmp_path, monkeypatch):
    tune = write(make_hot("llama", tmp_path / "hot", **EVEN), tmp_path / "tune")
    family = registry.get_family("llama-torchtune")
    plant_family(monkeypatch, replace(family, rules=lambda ours: [fault(rule) for rule in family.rules(ours)]))
    ours = convert(tune, "llama", output=tmp_path / "ours").output
    (ours / "conversion.json").unlink()
    assert compare(ours, tune, levels=["L2"]).level("L2").number > 1e-2


def test_rows_that_were_not_put_side_by_side_are_another_function(judged, hot, tmp_path):
    """A file whose q and k are in halves, as transformers has them: what torchtune would make of it, not of the hot."""
    plain = load_file(hot / "model.safetensors")

    def halved(weights):
        kept = {key: key.replace(".attn.", ".self_attn.") for key in weights if "q_proj" in key or "k_proj" in key}
        return weights | {key: plain[f"model.{name}"] for key, name in kept.items()}

    tune = write(hot, tmp_path / "tune", halved)
    ours = convert(tune, "llama", output=tmp_path / "ours").output
    judged(ours, tune)
    assert compare(ours, hot, levels=["L2"]).level("L2").number > 1e-2


def lost(weights):
    return {key: weight for key, weight in weights.items() if key != "layers.1.mlp.w3.weight"}


def short(weights):
    return weights | {"layers.1.attn.k_proj.weight": torch.zeros(20, 48)}


def more(weights):
    return weights | {"layers.1.attn.q_norm.scale": torch.zeros(6)}


BAD = {
    "a tensor is missing": (lost, {}, CoverageRefused, "layers.1.mlp.w3.weight"),
    "a tensor is too many": (more, {}, CoverageRefused, "layers.1.attn.q_norm.scale"),
    "a tensor has another shape": (short, {}, ShapeMismatch, "layers.1.attn.k_proj.weight"),
    "biases": (lambda w: w, {"attention_bias": True}, ConfigRefused, "torchtune's LLaMA has no biases"),
    "biases of the MLP": (lambda w: w, {"mlp_bias": True}, ConfigRefused, "torchtune's LLaMA has no biases"),
    "another family": (lambda w: w, {"model_type": "gemma"}, ConfigRefused, "FullModelHFCheckpointer"),
    "no type": (lambda w: w, {"model_type": None}, ConfigRefused, "FullModelHFCheckpointer"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_refused_by_name(case, hot, tmp_path):
    change, config, error, words = BAD[case]
    tune = write(hot, tmp_path / "tune", change, **config)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=words):
        convert(tune, output=tmp_path / "ours")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("key", ["layers.0.sa_norm.scale", "model.layers.0.mlp.gate_proj.lora_a.weight"])
def test_one_such_key_does_not_make_a_model_of_transformers_torchtunes(key, hot, tmp_path):
    """It is told by its name, and all others are known."""
    folder = shutil.copytree(hot, tmp_path / "plain")
    save_file(load_file(hot / "model.safetensors") | {key: torch.ones(48)}, folder / "model.safetensors")
    with pytest.raises(CoverageRefused, match=f"no rule knows the tensor {key}"):
        convert(folder, output=tmp_path / "ours")


@pytest.mark.parametrize(
    "key", ["layers.0.attn.q_proj.lora_a.weight", "layers.0.mlp.w1.lora_b.weight", "layers.2.attn.v_proj.magnitude"]
)
def test_an_adapter_is_refused_with_what_to_do(key, hot, tmp_path):
    tune = write(hot, tmp_path / "tune")
    torch.save({key: torch.ones(2, 2)}, tune / "adapter_model.pt")
    with pytest.raises(CoverageRefused, match="merged model"):
        convert(tune / "adapter_model.pt", output=tmp_path / "ours")
    (tune / FILE).unlink()
    with pytest.raises(CoverageRefused, match="merged model"):
        convert(tune, output=tmp_path / "ours")


def test_without_a_config_it_is_refused(hot, tmp_path):
    tune = write(hot, tmp_path / "tune")
    (tune / "config.json").unlink()
    with pytest.raises(ConfigRefused, match=r"has no config\.json, which says the sizes"):
        convert(tune / FILE, output=tmp_path / "ours")


def test_a_broken_file_is_refused(hot, tmp_path):
    tune = write(hot, tmp_path / "tune")
    content = (tune / FILE).read_bytes()
    (tune / FILE).write_bytes(content[: len(content) // 2])
    (tune / "adapter_model.pt").unlink()
    with pytest.raises(Refused, match=FILE):
        convert(tune, output=tmp_path / "ours")


def test_what_is_written_is_told_to_be_none_of_other_programs(hot, tmp_path):
    """torchtune reads safetensors, litgpt does not."""
    notes = {to: convert(hot, to=to, output=tmp_path / to).notes for to in ("llama-torchtune", "llama-litgpt")}
    assert {to: any("do not read" in note for note in said) for to, said in notes.items()} == {
        "llama-torchtune": False,
        "llama-litgpt": True,
    }


def test_every_type_that_is_read_is_a_dialect_of_its_family():
    dialects = {name: registry.get_family(f"{name}-torchtune").dialect_of for name in TUNED}
    assert dialects == {name: name for name in TUNED}


def test_a_config_without_a_type_is_of_its_family_still(hot, tmp_path):
    """The classes that a dialect shares with its family do not make a config ambiguous."""
    folder = shutil.copytree(hot, tmp_path / "plain")
    said = json.loads((folder / "config.json").read_text())
    del said["model_type"]
    (folder / "config.json").write_text(json.dumps(said))
    assert convert(folder, output=tmp_path / "ours").family == "llama"


@pytest.mark.slow
@pytest.mark.parametrize("family", TUNED)
def test_every_wrong_table_fails_by_its_function(family, tmp_path, monkeypatch):
    """A dozen mutations of the rules: they convert without complaint, and L2 finds them."""
    hot = make_hot(family, tmp_path / "hot", **SIZES, vocab_size=332)  # rows of 331 cannot be shuffled
    tune, dialect = write(hot, tmp_path / "tune"), f"{family}-torchtune"
    found = mutations(registry.get_family(dialect), layout.resolve(make_plan(tune).config))
    assert len(found) >= 12
    for k, (fault, table) in enumerate(found.items()):
        with monkeypatch.context() as patch:
            plant_family(patch, table)
            ours = convert(tune, dialect, output=tmp_path / str(k)).output
        (ours / "conversion.json").unlink()
        assert compare(ours, tune, levels=["L2"]).verdict == "FAIL", fault
