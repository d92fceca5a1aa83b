"""LLaMA to MixFormer and back: every bit returns, and both sides compute one function, for every variant."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import mixformer
from converters import convert, family
from converters.algebra.dims import Dims
from converters.algebra.moves import Concat, Rows
from converters.alignment import equal_folders
from converters.family import Rule
from golden import compare
from golden.conformance.planting import plant_family

QKV_SIZES = ("q_rows", "kv_rows", "kv_rows")


def both_ways(source: Path, place: Path) -> tuple[Path, Path]:
    ours = convert(source, to="mixformer", output=place / "ours").output
    return ours, convert(ours, to="llama", output=place / "back").output


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def test_the_round_trip_is_equal_and_the_function_the_same(every_llama, tmp_path):
    source = every_llama
    ours, back = both_ways(source, tmp_path)
    assert equal_folders(source, back) == []
    assert json.loads((back / "config.json").read_text()) == json.loads((source / "config.json").read_text())
    for candidate in (ours, back):
        verdict = compare(candidate, source, levels=["L0", "L1", "L2"])
        assert [level.status for level in verdict.levels[:3]] == ["PASS"] * 3, verdict
        assert verdict.level("L2").number <= 1e-10


@pytest.mark.parametrize("variant", ["gqa", "sharded", "bf16"])
def test_tensors_are_those_that_torch_would_concatenate(variant, llama, tmp_path):
    source = llama(variant)
    theirs, ours = weights(source), weights(both_ways(source, tmp_path)[0])
    layer = "model.layers.1."
    qkv = torch.cat([theirs[f"{layer}self_attn.{name}_proj.weight"] for name in "qkv"])
    up_gate = torch.cat([theirs[f"{layer}mlp.{name}_proj.weight"] for name in ("up", "gate")])
    assert torch.equal(ours["layers.2.attn.Wqkv.weight"], qkv)
    assert torch.equal(ours["layers.2.mlp.fc1.weight"], up_gate)
    assert torch.equal(ours["layers.4.linear.weight"], theirs["lm_head.weight"])


def test_after_fine_tuning_only_what_changed_differs(llama, tmp_path):
    source = llama("tied")
    ours, _ = both_ways(source, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(ours)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layers.2.mlp" in name)
    step = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    ids = torch.arange(60).reshape(2, 30)
    model(ids, labels=ids).loss.backward()
    step.step()
    model.save_pretrained(tmp_path / "tuned")
    back = convert(tmp_path / "tuned", to="llama", output=tmp_path / "tuned-back").output
    for name in ("tokenizer.json", "README.md", "LICENSE"):
        shutil.copy(source / name, back / name)
    differing = {line.split(":")[0] for line in equal_folders(source, back)}
    assert differing == {f"model.layers.1.mlp.{name}_proj.weight" for name in ("up", "gate", "down")}
    assert compare(back, tmp_path / "tuned", levels=["L0", "L1", "L2"]).level("L2").status == "PASS"


def test_a_candidate_saved_again_by_transformers_passes(llama, tmp_path):
    ours, _ = both_ways(llama("tied"), tmp_path)
    again = tmp_path / "again"
    AutoModelForCausalLM.from_pretrained(ours).save_pretrained(again)
    assert "has a tokenizer, the candidate has none" in compare(again, llama("tied"), levels=["L0"]).level("L0").detail
    for path in ours.glob("tokenizer*"):
        shutil.copy(path, again)
    verdict = compare(again, llama("tied"), levels=["L0", "L1", "L2"])
    assert [level.status for level in verdict.levels[:3]] == ["PASS"] * 3, verdict


def test_an_edited_config_comes_back_with_its_edits(llama, tmp_path):
    ours, _ = both_ways(llama("old spelling"), tmp_path)
    edited = json.loads((ours / "config.json").read_text())
    edited["architecture"]["mixer"]["rotary_base"] = 777.0
    (ours / "config.json").write_text(json.dumps(edited))
    back = convert(ours, to="llama", output=tmp_path / "edited").output
    config = json.loads((back / "config.json").read_text())
    assert config["rope_theta"] == 777.0 and "rope_parameters" not in config
    assert config["torch_dtype"] == "float32" and "dtype" not in config
    assert config["_name_or_path"] == "somebody/something"


def test_a_model_that_never_was_a_llama_becomes_one(tmp_path):
    architecture = {
        "block_cls": "sequential",
        "norm": {"norm_cls": "rms", "eps": 1e-3},
        "mixer": {"mixer_cls": "mha", "bias": False, "n_head_kv": 2, "rotary_base": 5e4},
        "mlp": {"mlp_cls": "glu", "act_fn": "silu", "n_inner": 72},
        "head": {"head_cls": "causal_lm", "use_bias": False},
    }
    sizes = {"vocab_size": 100, "n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 128}
    config = mixformer.MixFormerSequentialConfig(**sizes, architecture=architecture)
    torch.manual_seed(5)
    mixformer.MixFormerSequentialForCausalLM(config).save_pretrained(tmp_path / "ours")
    back = convert(tmp_path / "ours", to="llama", output=tmp_path / "theirs").output
    assert json.loads((back / "config.json").read_text())["vocab_size"] == 128  # 100 padded to a multiple of 64
    verdict = compare(back, tmp_path / "ours", levels=["L0", "L1", "L2"])
    assert verdict.level("L2").status == "PASS", verdict


def mutated(rule: Rule, mutation: str) -> Rule:
    """A rule with one fault that keeps every shape and so round-trips."""
    name = rule.ours[0]
    if mutation == "gate and up swapped" and name.endswith("fc1.weight"):
        return replace(rule, theirs=rule.theirs[::-1])
    if mutation == "k and v swapped" and name.endswith("Wqkv.weight"):
        q, k, v = rule.theirs
        return replace(rule, theirs=(q, v, k))
    if mutation == "norms swapped" and name.endswith(("ln_1.weight", "ln_2.weight")):
        other = name.replace("ln_1", "ln_3").replace("ln_2", "ln_1").replace("ln_3", "ln_2")
        return replace(rule, ours=(other,))
    if mutation == "q rows interleaved" and name.endswith("Wqkv.weight"):
        return replace(rule, move=Q_INTERLEAVED)
    if mutation == "two heads exchanged" and name.endswith("Wqkv.weight"):
        return replace(rule, move=HEADS_EXCHANGED)
    return rule


class _OnQuery:
    """An order of rows for q before it is joined with k and v."""

    takes, gives = 3, 1

    def __init__(self, factors: tuple[str | int, ...], order: tuple[int, ...]) -> None:
        self.rows = Rows(factors, order)

    def __call__(self, views, dims):
        sizes = Dims({**dims, "half": dims["head_dim"] // 2})
        first = self.rows(views[:1], sizes).views[0]
        return Concat(QKV_SIZES)([first, *views[1:]], sizes)

    @property
    def inverse(self):
        outer = self

        class Back:
            takes, gives = 1, 3

            def __call__(self, views, dims):
                sizes = Dims({**dims, "half": dims["head_dim"] // 2})
                q, k, v = Concat(QKV_SIZES).inverse(views, sizes).views
                moved = outer.rows.inverse([q], sizes)
                return moved._replace(views=(moved.views[0], k, v))

        return Back()


Q_INTERLEAVED = _OnQuery(("n_head", "half", 2), (0, 2, 1))
HEADS_EXCHANGED = _OnQuery((2, 2, "head_dim"), (1, 0, 2))
MUTATIONS = ("gate and up swapped", "k and v swapped", "norms swapped", "q rows interleaved", "two heads exchanged")


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_rule_round_trips_perfectly_and_fails_by_its_function(mutation, llama, tmp_path, monkeypatch):
    source = llama("gqa")
    right = family.get_family("llama")
    wrong = replace(right, rules=lambda ours: [mutated(rule, mutation) for rule in right.rules(ours)])
    with monkeypatch.context() as patch:
        plant_family(patch, wrong)
        ours, back = both_ways(source, tmp_path)
        assert equal_folders(source, back) == []
    (ours / "conversion.json").unlink()
    verdict = compare(ours, source, levels=["L2"])
    assert verdict.verdict == "FAIL"
    assert verdict.level("L2").number > 1e-3


WRONG_CONFIG = {
    "theta": lambda config: config["architecture"]["mixer"].update(rotary_base=10400.0),
    "eps": lambda config: config["architecture"]["norm"].update(eps=1.1e-5),
}


@pytest.mark.parametrize("field", WRONG_CONFIG)
def test_a_wrong_config_fails_by_its_function(field, llama, tmp_path):
    ours, _ = both_ways(llama("gqa"), tmp_path)
    config = json.loads((ours / "config.json").read_text())
    WRONG_CONFIG[field](config)
    (ours / "config.json").write_text(json.dumps(config))
    (ours / "conversion.json").unlink()
    assert compare(ours, llama("gqa"), levels=["L2"]).verdict == "FAIL"


def test_a_wrong_tie_fails_by_its_function_and_by_its_structure(llama, tmp_path):
    ours, _ = both_ways(llama("gqa"), tmp_path)
    config = json.loads((ours / "config.json").read_text())
    (ours / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    tensors = weights(ours)
    del tensors["layers.4.linear.weight"]
    save_file(tensors, ours / "model.safetensors", metadata={"format": "pt"})
    (ours / "conversion.json").unlink()
    assert compare(ours, llama("gqa"), levels=["L2"]).verdict == "FAIL"
    structure = compare(ours, llama("gqa"), levels=["L0"]).level("L0")
    assert structure.status == "FAIL" and "linear.weight" in structure.detail


def plant(folder: Path, key: str, change) -> None:
    """Changes one tensor of a folder in place."""
    tensors = weights(folder)
    change(tensors[key])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def exchange_heads(tensor: torch.Tensor) -> None:
    tensor[:40] = tensor[:40].reshape(2, 20, -1).flip(0).reshape(40, -1)


PLANTED = {
    "one sign": ("layers.2.mlp.fc1.weight", lambda t: t[3, 5].neg_()),
    "one sign of a norm": ("layers.1.ln_2.weight", lambda t: t[7].neg_()),
    "one row": ("layers.3.attn.out_proj.weight", lambda t: t[1].copy_(t[2])),
    "one head": ("layers.1.attn.Wqkv.weight", exchange_heads),
    "one row of the embedding": ("layers.0.wte.weight", lambda t: t[200].copy_(t[201])),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_fails_by_its_function_alone(fault, llama, tmp_path):
    ours, _ = both_ways(llama("gqa"), tmp_path)
    plant(ours, *PLANTED[fault])
    (ours / "conversion.json").unlink()
    assert compare(ours, llama("gqa"), levels=["L2"]).verdict == "FAIL"
    both = compare(ours, llama("gqa"), levels=["L1"])
    assert both.verdict == "FAIL" and both.level("L1").number == 1
