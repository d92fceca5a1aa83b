"""The anatomy knows every tensor of a model, each element once, so that no part is out of reach of a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from golden.faults.model_copy import admit
from golden.models.anatomy import read_anatomy
from golden.models.hot import make_hot

ATTENTION = {"mixer_cls": "mha", "n_head_kv": 2, "head_dim": 10}
GLU = {"mlp_cls": "glu", "n_inner": 24}
VARIANTS: dict[str, dict[str, Any]] = {
    "sequential glu": {
        "block_cls": "sequential",
        "norm": {"norm_cls": "rms"},
        "mlp": GLU,
    },
    "sequential fused": {"block_cls": "sequential", "norm": {"norm_cls": "torch"}, "mlp": {"mlp_cls": "fused_mlp"}},
    "glu with biases": {
        "block_cls": "sequential",
        "norm": {"norm_cls": "rms"},
        "mlp": {"mlp_cls": "glu_bias", "n_inner": 24},
    },
    "parallel": {"block_cls": "parallel", "norm": {"norm_cls": "torch"}, "mlp": {"mlp_cls": "mlp", "n_inner": 40}},
    "qk norm": {
        "block_cls": "sequential",
        "norm": {"norm_cls": "rms"},
        "mixer": ATTENTION | {"qk_norm": True},
        "mlp": GLU,
    },
    "norms before and after, around 1": {
        "block_cls": "residual",
        "norms": "both",
        "norm": {"norm_cls": "flash_rms", "zero_centered_weight": True},
        "mixer": ATTENTION | {"qk_norm": True, "qk_norm_over": "width"},
        "mlp": {"mlp_cls": "mlp_no_bias"},
    },
    "norms after, each head its own": {
        "block_cls": "residual",
        "norms": "after",
        "norm": {"norm_cls": "rms"},
        "mixer": ATTENTION | {"qk_norm": True, "qk_norm_over": "each_head"},
        "mlp": {"mlp_cls": "mlp_xielu"},
    },
}


DIALECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "tutorial": ("ngpt-tutorial", {}),
    "tutorial without rates": ("ngpt-tutorial", {"learned_rates": False}),
    "nvidia": ("ngpt-nvidia", {"bias": True}),
    "nvidia, use_nGPT 0": ("ngpt-nvidia", {"use_nGPT": 0, "bias": True}),
}


ZOO = ("gemma2", "gemma3-text", "olmo2", "exaone4", "glm", "glm4", "arcee", "nemotron", "apertus", "starcoder2")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_element_of_a_converted_ngpt_belongs_to_one_part(dialect: str, tmp_path: Path) -> None:
    from converters import convert

    name, overrides = DIALECTS[dialect]
    source = make_hot(name, tmp_path / "source", **overrides)
    patient = admit(convert(source, name, output=tmp_path / "ours").output)
    counts = covered(patient.anatomy, patient.weights)
    assert {key for key, count in counts.items() if not bool((count == 1).all())} == set()


def covered(anatomy: Any, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """How many parts hold each element."""
    counts = {key: torch.zeros(tensor.shape) for key, tensor in weights.items()}
    for part in anatomy.parts.values():
        part.view(counts).add_(1)
    return counts


@pytest.mark.parametrize("name", VARIANTS)
def test_every_element_of_a_mixformer_belongs_to_one_part(name: str) -> None:
    import mixformer

    architecture = {"mixer": ATTENTION} | VARIANTS[name] | {"head": {"head_cls": "causal_lm", "use_bias": True}}
    config = mixformer.MixFormerSequentialConfig(
        vocab_size=64, n_positions=32, n_embd=16, n_layer=2, n_head=4, embd_layer="default", architecture=architecture
    )
    with torch.device("meta"):
        keys = mixformer.MixFormerSequentialForCausalLM(config).state_dict()
    weights = {key: torch.zeros(tensor.shape) for key, tensor in keys.items()}
    counts = covered(read_anatomy(config.to_dict(), weights), weights)
    assert {key for key, count in counts.items() if not bool((count == 1).all())} == set()


@pytest.mark.parametrize(
    "family", ["llama", "mistral", "qwen2", "qwen3", "phi", "phi3", "gpt2", "gptj", "codegen", *DIALECTS, *ZOO]
)
def test_every_element_of_a_family_belongs_to_one_part(family: str, tmp_path: Path) -> None:
    name, overrides = DIALECTS.get(family, (family, {}))
    patient = admit(make_hot(name, tmp_path, **overrides))
    counts = covered(patient.anatomy, patient.weights)
    assert {key for key, count in counts.items() if not bool((count == 1).all())} == set()


def test_dials_are_turned_in_every_place_that_holds_them(reference: Path) -> None:
    patient = admit(reference)
    patient.turn("theta", 123.0)
    assert patient.read("theta") == patient.config["rope_parameters"]["rope_theta"] == 123.0
