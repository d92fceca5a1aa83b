"""litgpt's lit_model.pth: the function of the model that it was made of, rows in either order, faults found."""

import json
import pickle
import zipfile
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from converters import convert
from converters import family as registry
from converters.algebra.moves import Concat, Rows, Split
from converters.algebra.views import Each, Reorder, Then
from converters.alignment import equal_folders
from converters.checkpoint.opening import open_checkpoint
from converters.config import layout
from converters.errors import ConfigRefused, ConversionError, CoverageRefused, Refused, ShapeMismatch, UnsafeFile
from converters.family import SAME
from converters.plan.plan import make_plan
from golden import compare
from golden.conformance.mutations import mutations
from golden.conformance.planting import plant_family
from golden.models.hot import make_hot

FILE, SAID = "lit_model.pth", "model_config.yaml"
SIZES = {"hidden_size": 48, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 6}
THETA = {"rope_type": "default", "rope_theta": 10000.0}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0} | {
    "original_max_position_embeddings": 8192
}
SCALED = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_seq_len": 8192}
NAMES = {
    "input_layernorm": "norm_1",
    "post_attention_layernorm": "norm_2",
    "self_attn.o_proj": "attn.proj",
    "mlp.gate_proj": "mlp.fc_1",
    "mlp.up_proj": "mlp.fc_2",
    "mlp.down_proj": "mlp.proj",
}
CASES = {
    "plain": ("llama", {}, {}),
    "tied": ("llama", {"tie_word_embeddings": True}, {}),
    "wide heads": ("llama", {"head_dim": 20, "num_key_value_heads": 2}, {}),
    "one key-value head": ("llama", {"num_key_value_heads": 1}, {}),
    "3.1": ("llama", {"rope_parameters": LLAMA3}, {"rope_base": 500000, "rope_adjustments": SCALED}),
    "linear": ("llama", {"rope_parameters": LINEAR}, {"rope_adjustments": {"factor": 4.0}}),
    "condensed": ("llama", {"rope_parameters": LINEAR}, {"rope_condense_ratio": 4}),
    "qwen2.5": ("qwen2", {}, {"attn_bias": True}),
}


def by_litgpt(source, *, by_group=False):
    """The weights of a folder by litgpt's names: q, k and v in one matrix, the head stored also where it is tied."""
    config, found = json.loads((source / "config.json").read_text()), {}
    weights = load_file(source / "model.safetensors")
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    for i in range(config["num_hidden_layers"]):
        start = f"model.layers.{i}."
        for theirs, name in NAMES.items():
            found[f"transformer.h.{i}.{name}.weight"] = weights[f"{start}{theirs}.weight"]
        for end in ("weight", "bias") if f"{start}self_attn.q_proj.bias" in weights else ("weight",):
            q, k, v = (weights[f"{start}self_attn.{name}_proj.{end}"] for name in "qkv")
            if by_group:
                parts = [(q.chunk(groups)[g], k.chunk(groups)[g], v.chunk(groups)[g]) for g in range(groups)]
                found[f"transformer.h.{i}.attn.attn.{end}"] = torch.cat([one for part in parts for one in part])
            else:
                found[f"transformer.h.{i}.attn.qkv.{end}"] = torch.cat((q, k, v))
    assert heads % groups == 0
    found["transformer.wte.weight"] = weights["model.embed_tokens.weight"]
    found["transformer.ln_f.weight"] = weights["model.norm.weight"]
    return found | {"lm_head.weight": weights.get("lm_head.weight", found["transformer.wte.weight"])}


def said_of(source, **more):
    """What litgpt's Config says of a folder of transformers."""
    config = json.loads((source / "config.json").read_text())
    return {
        "name": "Tiny",
        "hf_config": {"name": "tiny", "org": "someone"},
        "block_size": config["max_position_embeddings"],
        "n_layer": config["num_hidden_layers"],
        "n_head": config["num_attention_heads"],
        "n_query_groups": config["num_key_value_heads"],
        "n_embd": config["hidden_size"],
        "head_size": config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        "vocab_size": config["vocab_size"] - 31,
        "padding_multiple": 64,
        "padded_vocab_size": config["vocab_size"],
        "intermediate_size": config["intermediate_size"],
        "norm_class_name": "RMSNorm",
        "norm_eps": config["rms_norm_eps"],
        "norm_qk": False,
        "norm_1": True,
        "parallel_residual": False,
        "shared_attention_norm": False,
        "mlp_class_name": "LLaMAMLP",
        "bias": False,
        "attn_bias": False,
        "lm_head_bias": False,
        "rotary_percentage": 1.0,
        "rope_base": 10000,
        "rope_condense_ratio": 1,
        "rope_adjustments": None,
        "sliding_window_size": None,
        "n_expert": 0,
        "n_expert_per_token": 0,
        "gelu_approximate": "none",
        **more,
    }


def write(source, folder, *, by_group=False, change=lambda weights: weights, wrap=lambda weights: weights, **more):
    """A folder of litgpt; `change`: the tensors; `wrap`: what is saved."""
    folder.mkdir(parents=True)
    said = {name: value for name, value in said_of(source, **more).items() if value != "left out"}
    (folder / SAID).write_text(yaml.dump(said))
    torch.save(wrap(change(by_litgpt(source, by_group=by_group))), folder / FILE)
    return folder


@pytest.fixture(scope="module")
def hot(tmp_path_factory):
    return make_hot("llama", tmp_path_factory.mktemp("lit") / "hot", **SIZES)


@pytest.mark.parametrize("by_group", [False, True], ids=["in a row", "by group"])
@pytest.mark.parametrize("case", CASES)
def test_they_are_one_function_both_ways(judged, case, by_group, equal_tensors, tmp_path):
    family, overrides, more = CASES[case]
    hot = make_hot(family, tmp_path / "hot", **(SIZES | {"rope_parameters": THETA} | overrides))
    lit = write(hot, tmp_path / "lit", by_group=by_group, **more)
    ours = convert(lit, "llama", output=tmp_path / "ours").output
    judged(ours, lit)
    if not by_group:
        judged(ours, hot, levels=["L2"])
    assert equal_tensors(convert(lit, to=family, output=tmp_path / "theirs").output, hot)
    back = convert(ours, to="llama-litgpt", output=tmp_path / "back").output
    assert equal_folders(lit, back) == []
    assert load_file(back / "model.safetensors").keys() == by_litgpt(hot, by_group=by_group).keys()
    if case in ("plain", "qwen2.5"):
        judged(ours, back)


def fine_tuned(weights):
    return {"model": weights}


def compiled(weights):
    return {"model": {f"_orig_mod.{key}": weight for key, weight in weights.items()}}


def pretrained(weights):
    state = {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(3)}}
    optimizer = {"state": state, "param_groups": [{"lr": 6e-4, "betas": (0.9, 0.95), "params": [0]}]}
    loader = {"num_samples_yielded": 3, "dataset": {}}
    return {"model": weights, "optimizer": optimizer, "train_dataloader": loader, "iter_num": 10, "step_count": 10}


@pytest.mark.parametrize("wrap", [fine_tuned, compiled, pretrained])
def test_what_recipes_save_around_the_model(judged, wrap, hot, equal_tensors, tmp_path):
    lit = write(hot, tmp_path / "lit", wrap=wrap)
    (lit / "config.json").write_bytes((hot / "config.json").read_bytes())  # recipes copy it
    (lit / f"{FILE}.lora").write_bytes(b"the adapter that was merged")
    ours = convert(lit / FILE, "llama", output=tmp_path / "ours").output
    judged(ours, lit)
    assert equal_tensors(convert(lit, to="llama", output=tmp_path / "theirs").output, hot)
    assert any("optimizer" in note for note in open_checkpoint(lit).notes) == (wrap is pretrained)


def test_a_file_of_another_name_is_known_by_its_keys(hot, equal_tensors, tmp_path):
    lit = write(hot, tmp_path / "lit")
    (lit / FILE).rename(lit / "step-00100.pth")
    assert equal_tensors(convert(lit, to="llama", output=tmp_path / "theirs").output, hot)


def test_the_model_that_litgpt_converted_is_one_of_transformers(hot, equal_tensors, tmp_path):
    """The remedy for what is not read: model.pth with the keys of transformers, beside a copy of model_config.yaml."""
    there = write(hot, tmp_path / "there")
    (there / FILE).unlink()
    torch.save(load_file(hot / "model.safetensors"), there / "model.pth")
    (there / "config.json").write_bytes((hot / "config.json").read_bytes())
    ours = convert(there, "llama", output=tmp_path / "ours")
    assert ours.family == "llama"
    assert equal_tensors(convert(ours.output, to="llama", output=tmp_path / "theirs").output, hot)


def test_the_tokenizer_beside_it_goes_along(hot, tmp_path):
    lit = write(hot, tmp_path / "lit")
    (lit / "tokenizer.json").write_text("{}")
    ours = convert(lit, output=tmp_path / "ours").output
    assert (ours / "tokenizer.json").read_text() == "{}" and not (ours / SAID).exists()


def test_a_file_whose_storages_are_numbered_by_integers(hot, equal_tensors, tmp_path):
    """As litgpt's own `incremental_save` writes them: the pickle says 3, the entry of the zip is data/3."""
    lit = write(hot, tmp_path / "lit")
    weights = by_litgpt(hot)

    class Tensor:
        def __init__(self, number, weight):
            self.number, self.weight = number, weight

        def __reduce__(self):
            size, strides = tuple(self.weight.shape), self.weight.stride()
            return torch._utils._rebuild_tensor_v2, (Storage(self), 0, size, strides, False, {})

    class Storage:
        def __init__(self, tensor):
            self.pid = ("storage", torch.FloatStorage, tensor.number, "cpu", tensor.weight.numel())

    class Pickler(pickle._Pickler):
        def persistent_id(self, obj):
            return obj.pid if isinstance(obj, Storage) else None

    with zipfile.ZipFile(lit / FILE, "w") as file:
        for number, weight in enumerate(weights.values()):
            file.writestr(f"lit_model/data/{number}", weight.contiguous().numpy().tobytes())
        with file.open("lit_model/data.pkl", "w") as out:
            Pickler(out, 2).dump({key: Tensor(n, weight) for n, (key, weight) in enumerate(weights.items())})
    assert equal_tensors(convert(lit, to="llama", output=tmp_path / "theirs").output, hot)


def test_a_small_yaml_is_enough(hot, equal_tensors, tmp_path):
    """Sizes that follow from others, and the vocabulary, which the embedding tells."""
    left = dict.fromkeys(("name", "hf_config", "head_size", "padded_vocab_size", "norm_1", "n_expert"), "left out")
    lit = write(hot, tmp_path / "lit", **left)
    assert equal_tensors(convert(lit, to="llama", output=tmp_path / "theirs").output, hot)


@pytest.mark.parametrize("placing", [None, "all", 1])
def test_a_yaml_of_older_litgpt(placing, hot, equal_tensors, tmp_path):
    """0.4.13 to 0.5.5 write a field that newer ones do not have; it says nothing where no window is set."""
    lit = write(hot, tmp_path / "lit", by_group=True, sliding_window_layer_placing=placing)
    assert equal_tensors(convert(lit, to="llama", output=tmp_path / "theirs").output, hot)


def unmoved(rule):
    """q, k and v as they lie, group after group."""
    return replace(rule, move=SAME) if rule.ours[0].endswith("Wqkv.weight") else rule


def turned(rule):
    """Rotary pairs taken for neighbours."""

    thirds = ("q_rows",) * 3
    rows = Rows(("n_head", "half_rotary", 2), (0, 2, 1))
    move = Then((Split(thirds), Each((rows, rows, SAME)), Concat(thirds)))
    return replace(rule, move=move) if rule.ours[0].endswith("Wqkv.weight") else rule


def exchanged(rule):
    """Keys for queries."""
    thirds = ("q_rows",) * 3
    move = Then((Split(thirds), Reorder((1, 0, 2)), Concat(thirds)))
    return replace(rule, move=move) if rule.ours[0].endswith("Wqkv.weight") else rule


def gate_for_up(rule):
    """The activated half of the MLP for the other."""
    return replace(rule, theirs=rule.theirs[::-1]) if rule.ours[0].endswith("fc1.weight") else rule


def norms_exchanged(rule):
    """The norm of attention for that of the MLP."""
    other = {f"transformer.h.{{i}}.norm_{n}.weight": f"transformer.h.{{i}}.norm_{3 - n}.weight" for n in (1, 2)}
    return replace(rule, theirs=(other.get(rule.theirs[0], rule.theirs[0]), *rule.theirs[1:]))


@pytest.mark.parametrize(
    ("fault", "by_group"),
    [(unmoved, True), (turned, False), (exchanged, False), (gate_for_up, False), (norms_exchanged, True)],
)
def test_a_wrong_rule_is_found_by_the_function(fault, by_group, tmp_path, monkeypatch):
    hot = make_hot("llama", tmp_path / "hot", **SIZES | {"num_key_value_heads": 8})
    lit, family = write(hot, tmp_path / "lit", by_group=by_group), registry.get_family("llama-litgpt")
    plant_family(monkeypatch, replace(family, rules=lambda ours: [fault(rule) for rule in family.rules(ours)]))
    ours = convert(lit, "llama", output=tmp_path / "ours").output
    (ours / "conversion.json").unlink()
    assert compare(ours, lit, levels=["L2"]).level("L2").number > 1e-2


REFUSED = {
    "mlp_class_name": ("GptNeoxMLP", "convert_from_litgpt"),
    "norm_class_name": ("LayerNorm", "norm_class_name is 'LayerNorm', expected 'RMSNorm'; run `litgpt convert_from"),
    "parallel_residual": (True, "parallel_residual is true"),
    "shared_attention_norm": (True, "shared_attention_norm is true"),
    "bias": (True, "bias is true"),
    "lm_head_bias": (True, "lm_head_bias is true"),
    "norm_qk": (True, "norm_qk is true"),
    "post_mlp_norm": (True, "post_mlp_norm is true"),
    "rotary_percentage": (0.25, "rotary_percentage is 0.25, expected 1.0"),
    "sliding_window_size": (4096, "sliding_window_size is 4096"),
    "attention_logit_softcapping": (50.0, "attention_logit_softcapping is 50.0"),
    "scale_embeddings": (True, "scale_embeddings is true"),
    "n_expert": (8, "n_expert is 8"),
    "latent_attention": ({"q_lora_rank": 3}, "latent_attention is"),
    "name": ("CodeGemma-7b", "whose norms add one"),
    "rope_adjustments": ({"factor": 4.0, "beta_fast": 32, "beta_slow": 1}, "rope_adjustments is"),
    "rope_interleave": (True, "rope_interleave is true"),
    "padded_vocab_size": (512, "vocab_size = 512"),
    "n_layer": (0, "n_layer is 0, expected a positive integer"),
    "norm_eps": ("1e-5", "norm_eps is '1e-5'"),
    "rope_base": (-1, "rope_base is -1"),
    "n_heads": (8, "n_heads"),
    "dtype": ("float32", "no field of litgpt's"),
}


@pytest.mark.parametrize("field", REFUSED)
def test_a_field_that_cannot_be_held_is_refused_by_name(field, hot, tmp_path):
    value, words = REFUSED[field]
    lit = write(hot, tmp_path / "lit", **{field: value})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Refused) as caught:
        convert(lit, output=tmp_path / "ours")
    assert words in str(caught.value)
    told = [str(caught.value), *getattr(caught.value, "__notes__", ())]
    assert isinstance(caught.value, ShapeMismatch) or SAID in "\n".join(told)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["parallel_residual", "bias", "mlp_class_name", "norm_class_name", "rotary_percentage"]
)
def test_a_field_that_is_missing_has_litgpts_default(name, hot, tmp_path):
    """Which is not a LLaMA's."""
    lit = write(hot, tmp_path / "lit", **{name: "left out"})
    with pytest.raises(ConfigRefused, match=name):
        convert(lit, output=tmp_path / "ours")


def test_two_scalings_at_once_are_refused(hot, tmp_path):
    lit = write(hot, tmp_path / "lit", rope_condense_ratio=2, rope_adjustments={"factor": 2.0})
    with pytest.raises(ConfigRefused, match="expected one scaling"):
        convert(lit, output=tmp_path / "ours")


YAMLS = {
    "is no YAML": ("n_layer: [3", "cannot be read as YAML"),
    "is empty": ("", "holds no fields by name"),
    "is a list": ("- n_layer\n", "holds no fields by name"),
    "names numbers": ("1: 2\n", "holds no fields by name"),
    "has a date": ("name: 2024-01-01\n", "has name with a value of type date"),
    "has a field twice": ("n_layer: 3\nn_head: 2\nn_layer: 4\n", "has n_layer twice"),
    "has an alias": ("a: &x [1]\nb: [*x, *x]\n", "has an alias"),
    "asks for code": ("name: !!python/object/apply:os.system ['touch broken']\n", "cannot be read as YAML"),
    "is deep": ("name: " + "[" * 5000 + "]" * 5000, "has 5000 opening brackets"),
    "is deep in lines": ("hf_config:\n" + "".join(f"{' ' * i}a:\n" for i in range(1, 20)), "has hf_config with"),
    "is deep in dashes": ("- " * 20000, "cannot be read as YAML"),
    "has a sexagesimal number": ("n_layer: 1" + ":1" * 20000, "has n_layer with a value of type int"),
    "has no finite number": ("norm_eps: .inf", "has norm_eps with a value of type float"),
    "has a long number": ("n_layer: " + "9" * 5000, "cannot be read as YAML"),
    "is no text": ("\x00\x01", "cannot be read as YAML"),
}


@pytest.mark.parametrize("case", YAMLS)
def test_a_broken_yaml_is_refused_in_a_sentence(case, hot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, words = YAMLS[case]
    lit = write(hot, tmp_path / "lit")
    (lit / SAID).write_text(text)
    with pytest.raises(ConfigRefused, match=SAID) as caught:
        convert(lit, output=tmp_path / "ours")
    assert words in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 700
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lit"]


def test_a_large_yaml_is_not_read(hot, tmp_path):
    lit = write(hot, tmp_path / "lit")
    (lit / SAID).write_text("#" * 300_000)
    with pytest.raises(UnsafeFile, match="at most 50000"):
        convert(lit, output=tmp_path / "ours")


def test_without_its_yaml_it_is_refused(hot, tmp_path):
    lit = write(hot, tmp_path / "lit")
    (lit / SAID).unlink()
    for source in (lit, lit / FILE):
        with pytest.raises(ConfigRefused, match=r"has no model_config\.yaml"):
            convert(source, output=tmp_path / "ours")


CHANGED = {
    "lost": (lambda w: {k: v for k, v in w.items() if "h.1.mlp.fc_2" not in k}, CoverageRefused, "h.1.mlp.fc_2.weight"),
    "no head": (lambda w: {k: v for k, v in w.items() if "lm_head" not in k}, CoverageRefused, "no lm_head.weight"),
    "no embedding": (lambda w: {k: v for k, v in w.items() if "wte" not in k}, CoverageRefused, "no transformer.wte"),
    "more": (lambda w: w | {"transformer.h.0.mlp.gate.weight": torch.ones(2)}, CoverageRefused, "h.0.mlp.gate.weight"),
    "short": (lambda w: w | {"transformer.h.1.attn.qkv.weight": torch.ones(90, 48)}, ShapeMismatch, "h.1.attn.qkv"),
    "LoRA": (lambda w: w | {"transformer.h.1.attn.qkv.lora_A": torch.ones(2)}, CoverageRefused, "merge_lora"),
    "adapter": (lambda w: w | {"transformer.h.2.attn.gating_factor": torch.ones(2)}, CoverageRefused, "an adapter"),
    "no tensors": (lambda w: {}, CoverageRefused, "no transformer.wte"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_tensors_that_do_not_fit_are_refused_by_name(case, hot, tmp_path):
    change, error, words = CHANGED[case]
    lit = write(hot, tmp_path / "lit", change=change)
    with pytest.raises(error, match=words):
        convert(lit, output=tmp_path / "ours")
    assert [path.name for path in tmp_path.iterdir()] == ["lit"]


def test_an_adapter_alone_is_refused_with_what_to_do(hot, tmp_path):
    lit = write(hot, tmp_path / "lit")
    (lit / FILE).rename(lit / f"{FILE}.lora")
    with pytest.raises(CoverageRefused, match="merge_lora"):
        convert(lit, output=tmp_path / "ours")


@pytest.mark.parametrize("left", [0, 100, 30_000])
def test_a_file_that_was_cut_off_is_refused(left, hot, tmp_path):
    lit = write(hot, tmp_path / "lit")
    (lit / FILE).write_bytes((lit / FILE).read_bytes()[:left])
    with pytest.raises(UnsafeFile, match=FILE):
        convert(lit, output=tmp_path / "ours")


@pytest.mark.slow
@pytest.mark.parametrize("by_group", [False, True])
def test_every_wrong_table_fails_by_its_function(by_group, tmp_path, monkeypatch):
    """A dozen mutations of the rules: they convert without complaint, and L2 finds them."""
    hot = make_hot("llama", tmp_path / "hot", **SIZES, vocab_size=332)  # rows of 331 cannot be shuffled
    lit, dialect = write(hot, tmp_path / "lit", by_group=by_group), "llama-litgpt"
    found = mutations(registry.get_family(dialect), layout.resolve(make_plan(lit).config))
    assert len(found) >= 12
    for k, (fault, table) in enumerate(found.items()):
        with monkeypatch.context() as patch:
            plant_family(patch, table)
            ours = convert(lit, dialect, output=tmp_path / str(k)).output
        (ours / "conversion.json").unlink()
        assert compare(ours, lit, levels=["L2"]).verdict == "FAIL", fault


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
value = plain | st.lists(plain, max_size=3) | st.dictionaries(st.text(max_size=5), plain, max_size=3)
FIELDS = [*REFUSED, "n_embd", "n_head", "n_query_groups", "head_size", "intermediate_size", "block_size", "hf_config"]
fuzz = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def planned_or_refused(lit):
    with suppress(ConversionError):
        make_plan(lit)


@pytest.mark.slow
@fuzz
@given(st.dictionaries(st.sampled_from(FIELDS), value, min_size=1, max_size=3))
def test_any_value_of_a_field_is_planned_or_refused(hot, tmp_path, fields):
    lit = tmp_path / "lit" if (tmp_path / "lit").exists() else write(hot, tmp_path / "lit")
    (lit / SAID).write_text(yaml.dump({**said_of(hot), **fields}))
    planned_or_refused(lit)


@pytest.mark.slow
@fuzz
@given(st.data())
def test_any_bytes_are_planned_or_refused(hot, tmp_path, data):
    lit = tmp_path / "lit" if (tmp_path / "lit").exists() else write(hot, tmp_path / "lit")
    text = bytearray(yaml.dump(said_of(hot)).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    (lit / SAID).write_bytes(text)
    planned_or_refused(lit)
