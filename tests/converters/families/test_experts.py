"""Mixtures of experts: files hold one tensor for each expert, and their number has to be that of the config."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import mixformer  # noqa: F401  registers the Auto classes
from converters import convert
from converters.errors import ConversionError
from golden.models.hot import make_hot

FAMILIES = ("mixtral", "qwen2moe", "qwen3moe", "olmoe")
COUNTS = dict.fromkeys(("mixtral", "qwen3moe"), "num_local_experts")  # as transformers 5 spells it


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def source(family, tmp_path):
    return make_hot(family, tmp_path / "hot")


def changed(folder, **fields):
    """The folder with other fields in config.json; None takes one out."""
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))
    return folder


def test_transformers_saves_experts_one_by_one_and_ours_holds_them_as_one(family, source, tmp_path):
    theirs = load_file(source / "model.safetensors")
    experts = [key for key in theirs if ".layers.0." in key and ".experts." in key]
    assert len(experts) == 5 * 3
    made = load_file(convert(source, family, output=tmp_path / "ours").output / "model.safetensors")
    fc1, fc2 = (made[f"layers.1.mlp.experts.{name}.weight"] for name in ("fc1", "fc2"))
    names = ("w3", "w1", "w2") if family == "mixtral" else ("up_proj", "gate_proj", "down_proj")
    parts = [[next(theirs[k] for k in experts if f".experts.{e}.{name}." in k) for name in names] for e in range(5)]
    assert torch.equal(fc1, torch.cat([matrix for up, gate, _ in parts for matrix in (up, gate)]))
    assert torch.equal(fc2, torch.cat([down for *_, down in parts]))


@pytest.mark.parametrize(("count", "why"), [(4, r"experts\.4\."), (6, r"experts\.5\.")])
def test_a_number_of_experts_that_contradicts_the_tensors_is_refused(family, source, tmp_path, count, why):
    changed(source, **{COUNTS.get(family, "num_experts"): count})
    with pytest.raises(ConversionError, match=why):
        convert(source, family, output=tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_router_of_another_height_is_refused(family, source, tmp_path):
    tensors = load_file(source / "model.safetensors")
    key = next(key for key in tensors if key.endswith((".mlp.gate.weight", "block_sparse_moe.gate.weight")))
    save_file({**tensors, key: tensors[key][:3].contiguous()}, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConversionError, match=r"n_experts = 5"):
        convert(source, family, output=tmp_path / "ours")


def test_more_active_experts_than_there_are_is_refused(family, source, tmp_path):
    with pytest.raises(ConversionError, match="n_active is 6"):
        convert(changed(source, num_experts_per_tok=6), family, output=tmp_path / "ours")


REFUSED = {
    "plain layers by step": ("qwen3moe", {"decoder_sparse_step": 2}, "experts in every layer"),
    "plain layers by number": ("qwen2moe", {"mlp_only_layers": [1]}, "experts in every layer"),
    "windows of Qwen2-MoE": ("qwen2moe", {"use_sliding_window": True}, "which layers have a window"),
    "OLMoE's bound": ("olmoe", {"clip_qkv": 8.0}, "behind their norms"),
    "an unknown field": ("mixtral", {"expert_capacity": 3}, "expert_capacity"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_converted_is_refused_by_name(what, tmp_path):
    family, fields, why = REFUSED[what]
    source = changed(make_hot(family, tmp_path / "hot"), **fields)
    with pytest.raises(ConversionError, match=why):
        convert(source, family, output=tmp_path / "ours")


def test_a_family_without_experts_does_not_take_a_mixture(tmp_path):
    ours = convert(make_hot("mixtral", tmp_path / "hot"), "mixtral", output=tmp_path / "ours").output
    with pytest.raises(ConversionError, match="a mixture of experts"):
        convert(ours, to="llama", output=tmp_path / "llama")


def test_another_kind_of_mixture_is_refused_by_what_it_has(tmp_path):
    ours = convert(make_hot("qwen2moe", tmp_path / "hot"), "qwen2moe", output=tmp_path / "ours").output
    with pytest.raises(ConversionError, match="shared_inner"):
        convert(ours, to="olmoe", output=tmp_path / "olmoe")


@pytest.mark.slow
def test_the_loss_with_that_of_the_router_is_transformers(family, tmp_path):
    coef = {"output_router_logits": True, "router_aux_loss_coef": 0.3}
    source = make_hot(family, tmp_path / "hot", **coef)
    ours = convert(source, family, output=tmp_path / "ours").output
    ids = torch.arange(40)[None] * 7 % 331
    losses = [
        float(AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")(ids, labels=ids).loss.detach())
        for folder in (source, ours)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
