"""Checkpoints of every generation load as one function and are saved in the current form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PhiConfig, PhiForCausalLM

from mixformer import MixFormerError, MixFormerSequentialConfig, MixFormerSequentialForCausalLM

L, V = 2, 64
FLAT: dict[str, Any] = {
    "model_type": "mixformer-sequential",
    "architectures": ["MixFormerSequentialForCausalLM"],
    "auto_map": {"AutoModelForCausalLM": "modeling_mixformer_sequential.MixFormerSequentialForCausalLM"},
    "activation_function": "gelu_new",
    "embd_pdrop": 0.0,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-4,
    "n_embd": 128,
    "n_head": 2,
    "n_inner": None,
    "n_layer": L,
    "n_positions": 64,
    "resid_pdrop": 0.0,
    "rotary_dim": 32,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "vocab_size": V,
}
FIRST = {
    **FLAT,
    "architecture": {"block_cls": "parallel", "mixer": {}, "mlp": {"mlp_cls": "mlp"}},
    "embd_layer": "default",
    "phyagi_version": "0.0.4.dev",
}
LAST = {**FLAT, "n_head_kv": None, "flash_rotary": False, "fused_dense": False, "attn_pdrop": 0.0}
MSFT = {**LAST, "model_type": "phi-msft", "architectures": ["PhiForCausalLM"], "flash_attn": False}
SDK = {
    **FLAT,
    "pad_vocab_size_multiple": 64,
    "phyagi_version": "3.2.2.dev",
    "architecture": {
        "block_cls": "parallel",
        "norm": {"norm_cls": "torch", "eps": 1e-4},
        "mixer": {"mixer_cls": "mha"},
        "mlp": {"mlp_cls": "mlp"},
    },
}

Weights = dict[str, Tensor]


@pytest.fixture
def phi(heat: Any) -> PhiForCausalLM:
    """The function that all generations are: a small phi-1.5, hot."""
    config = PhiConfig(
        vocab_size=V, hidden_size=128, intermediate_size=512, num_hidden_layers=L, num_attention_heads=2,
        layer_norm_eps=1e-4, max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    )  # fmt: skip
    return heat(PhiForCausalLM(config))


@pytest.fixture
def weights(phi: PhiForCausalLM) -> Weights:
    """Its tensors under current names."""
    theirs, ours = phi.state_dict(), {}
    ours["layers.0.wte.weight"] = theirs["model.embed_tokens.weight"]
    for kind in ("weight", "bias"):
        for i in range(L):
            source, target = f"model.layers.{i}.", f"layers.{i + 1}."
            ours[f"{target}ln.{kind}"] = theirs[f"{source}input_layernorm.{kind}"]
            parts = [theirs[f"{source}self_attn.{x}_proj.{kind}"] for x in "qkv"]
            ours[f"{target}mixer.Wqkv.{kind}"] = torch.cat(parts)
            ours[f"{target}mixer.out_proj.{kind}"] = theirs[f"{source}self_attn.dense.{kind}"]
            ours[f"{target}mlp.fc1.{kind}"] = theirs[f"{source}mlp.fc1.{kind}"]
            ours[f"{target}mlp.fc2.{kind}"] = theirs[f"{source}mlp.fc2.{kind}"]
        ours[f"layers.{L + 1}.ln.{kind}"] = theirs[f"model.final_layernorm.{kind}"]
        ours[f"layers.{L + 1}.linear.{kind}"] = theirs[f"lm_head.{kind}"]
    return {key: tensor.clone() for key, tensor in ours.items()}


def as_first_generation(weights: Weights) -> Weights:
    old = {re.sub(r"fc1", "fc_in", re.sub(r"fc2", "fc_out", key)): tensor for key, tensor in weights.items()}
    wrong = torch.full((16,), 7.0, dtype=torch.float16)  # ours must not take rounded frequencies from a file
    return old | {f"layers.{i + 1}.mixer.rotary_emb.inv_freq": wrong for i in range(L)}


def with_frequencies(weights: Weights) -> Weights:
    return weights | {f"layers.{i + 1}.mixer.rotary_emb.inv_freq": torch.zeros(16) for i in range(L)}


def as_msft(weights: Weights) -> Weights:
    result = {}
    for key, tensor in weights.items():
        number, rest = re.fullmatch(r"layers\.(\d+)\.(.*)", key).groups()
        prefix = {0: "transformer.embd.", L + 1: "lm_head."}.get(int(number), f"transformer.h.{int(number) - 1}.")
        result[prefix + rest] = tensor
    return result


GENERATIONS: dict[str, tuple[dict[str, Any], Callable[[Weights], Weights]]] = {
    "first": (FIRST, as_first_generation),
    "first with new mlp names": (FIRST, with_frequencies),
    "second": (FLAT, dict),
    "second with frequencies": (FLAT, with_frequencies),
    "last remote code": (LAST, dict),
    "phi-msft": (MSFT, as_msft),
    "sdk": (SDK, dict),
}


def write(folder: Path, config: dict[str, Any], weights: Weights) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("auto", [True, False], ids=["auto", "class"])
@pytest.mark.parametrize("name", GENERATIONS)
def test_every_generation_is_phi_in_float64_and_is_saved_as_the_sdk_does(
    name: str, auto: bool, phi: PhiForCausalLM, weights: Weights, float64_logits: Any, relative_rms: Any, tmp_path: Path
) -> None:
    config, spell = GENERATIONS[name]
    folder = write(tmp_path / "old", config, spell(weights))
    loader = AutoModelForCausalLM if auto else MixFormerSequentialForCausalLM
    model, report = loader.from_pretrained(folder, output_loading_info=True)
    assert type(model) is MixFormerSequentialForCausalLM
    assert not any(report.values()), report
    model.save_pretrained(tmp_path / "new")
    assert {k: v.shape for k, v in load_file(tmp_path / "new" / "model.safetensors").items()} == {
        k: v.shape for k, v in weights.items()
    }
    saved = json.loads((tmp_path / "new" / "config.json").read_text())
    assert saved["model_type"] == "mixformer-sequential"
    assert saved["architecture"]["mixer"]["mixer_cls"] == "mha"
    assert saved["architecture"]["norm"] == {"norm_cls": "torch", "eps": 1e-4}
    assert saved["rotary_dim"] == 32
    assert "auto_map" not in saved
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    ids = torch.randint(0, V, (2, 20))
    truth = float64_logits(phi, ids)
    assert relative_rms(model.double()(ids).logits, truth) <= 1e-10
    assert relative_rms(again.double()(ids).logits, truth) <= 1e-10


@pytest.mark.parametrize("name", GENERATIONS)
def test_a_flat_configuration_without_rotary_dim_rotates_32_dimensions_at_most(name: str) -> None:
    config = {k: v for k, v in GENERATIONS[name][0].items() if k not in ("rotary_dim", "torch_dtype")}
    for width, expected in ((128, 32), (32, 16)):
        found = MixFormerSequentialConfig.from_dict({**config, "n_embd": width}).rotary_dim
        assert found == (width // config["n_head"] if name == "sdk" else expected)


@pytest.mark.parametrize("flat", [FLAT, LAST, MSFT])
def test_attention_dropout_of_a_flat_configuration_is_kept(flat: dict[str, Any]) -> None:
    config = MixFormerSequentialConfig.from_dict({**flat, "attn_pdrop": 0.25})
    assert config.architecture["mixer"] == {"mixer_cls": "mha", "dropout": 0.25}


def test_auto_config_reads_phi_msft(tmp_path: Path, weights: Weights) -> None:
    config = AutoConfig.from_pretrained(write(tmp_path, MSFT, {}))
    assert type(config) is MixFormerSequentialConfig


def test_plain_load_state_dict_takes_the_names_of_the_first_generation(weights: Weights) -> None:
    model = MixFormerSequentialForCausalLM(MixFormerSequentialConfig.from_dict(FIRST))
    before = model.layers[1].mixer.rotary_emb.inv_freq.clone()
    model.load_state_dict(as_first_generation(weights), strict=True)
    assert torch.equal(model.layers[1].mlp.fc1.weight, weights["layers.1.mlp.fc1.weight"])
    assert torch.equal(model.layers[1].mixer.rotary_emb.inv_freq, before)


def deepspeed_whole(folder: Path, weights: Weights) -> None:
    torch.save({"module": weights, "global_steps": 3}, folder / "mp_rank_00_model_states.pt")


def deepspeed_layers(folder: Path, weights: Weights) -> None:
    for number in range(L + 2):
        prefix = f"layers.{number}."
        part = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        torch.save(part, folder / f"layer_{number:02d}-model_states.pt")


@pytest.mark.parametrize("tagged", [False, True], ids=["step", "above"])
@pytest.mark.parametrize("layout", [deepspeed_whole, deepspeed_layers])
def test_a_deepspeed_folder_loads(layout: Any, tagged: bool, weights: Weights, tmp_path: Path) -> None:
    step = tmp_path / "global_step3" if tagged else tmp_path
    step.mkdir(exist_ok=True)
    layout(step, weights)
    (tmp_path / "config.json").write_text(json.dumps(SDK))
    if tagged:
        (tmp_path / "latest").write_text("global_step3\n")
    model, report = MixFormerSequentialForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in weights.items())
    config = MixFormerSequentialConfig.from_dict(SDK)
    again = MixFormerSequentialForCausalLM.from_pretrained(step, config=config)
    assert torch.equal(again.layers[1].mlp.fc1.weight, weights["layers.1.mlp.fc1.weight"])


BAD_FOLDERS = [
    (["zero_pp_rank_0_mp_rank_00_model_states.pt"], "sharded over processes .zero_pp_rank_0_mp_rank_00"),
    (["mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"], "sharded over processes .mp_rank_01"),
    (["layer_00-model_01-model_states.pt"], "only layer_NN-model_states.pt files can be read"),
    (["mp_rank_00_model_states.pt"], 'has no weights under "module"'),
    (["other_model_states.pt"], "has no mp_rank_00_model_states.pt"),
]


@pytest.mark.parametrize(("files", "message"), BAD_FOLDERS, ids=lambda x: str(x)[:40])
def test_a_deepspeed_folder_without_whole_weights_is_refused(files: list[str], message: str, tmp_path: Path) -> None:
    for file in files:
        torch.save({"optimizer": 1}, tmp_path / file)
    with pytest.raises(MixFormerError, match=message):
        MixFormerSequentialForCausalLM.from_pretrained(tmp_path, config=MixFormerSequentialConfig.from_dict(SDK))


def test_a_deepspeed_file_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"module": Evil()}, tmp_path / "mp_rank_00_model_states.pt")
    with pytest.raises(MixFormerError, match="only its own code could load"):
        MixFormerSequentialForCausalLM.from_pretrained(tmp_path, config=MixFormerSequentialConfig.from_dict(SDK))
    assert not (tmp_path / "ran").exists()


def test_overrides_at_loading_reach_configuration_and_model(weights: Weights, tmp_path: Path) -> None:
    folder = write(tmp_path, SDK, weights)
    model = MixFormerSequentialForCausalLM.from_pretrained(
        folder,
        architecture={"mixer": {"window_size": 3}},
        resid_pdrop=0.5,
        attn_implementation="eager",
        dtype="bfloat16",
    )
    assert model.layers[1].mixer.inner_attn.window == (3, 0)
    assert model.layers[1].resid_dropout.p == 0.5
    assert model.config._attn_implementation == "eager"
    assert model.dtype == torch.bfloat16
