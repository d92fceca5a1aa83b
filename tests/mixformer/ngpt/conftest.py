"""The dialects of nGPT: their keys and transcriptions, and the MixFormer that each becomes, mapped by hand."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM

Tensors = dict[str, Tensor]


def _beside(name: str) -> ModuleType:
    """A file of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


theirs = _beside("ngpt_transcriptions")
Sizes = theirs.Sizes
ONE = {"init": 1.0, "scaling": 1.0}


@dataclass(frozen=True)
class Dialect:
    """One kind of checkpoint: its keys, its forward pass, and the MixFormer it becomes."""

    name: str
    keys: Callable[[Sizes], dict[str, tuple[int, ...]]]
    logits: Callable[[Tensors, Tensor, Sizes], Tensor]
    architecture: Callable[[Sizes], dict[str, Any]]
    ours: Callable[[Tensors, Sizes], Tensors]

    def model(self, tensors: Tensors, sizes: Sizes, change: Any = None) -> MixFormerSequentialForCausalLM:
        """The MixFormer with these tensors, in their dtype; `change` edits the architecture first."""
        architecture = self.architecture(sizes)
        if change is not None:
            change(architecture)
        config = MixFormerSequentialConfig(
            n_embd=sizes.d,
            n_head=sizes.heads,
            n_layer=sizes.layers,
            vocab_size=sizes.vocabulary,
            pad_vocab_size_multiple=1,
            n_positions=512,
            architecture=copy.deepcopy(architecture),
        )
        model = MixFormerSequentialForCausalLM(config).to(next(iter(tensors.values())).dtype)
        model.load_state_dict(self.ours(tensors, sizes), strict=change is None)
        return model.eval()

    def hot(self, sizes: Sizes, seed: int = 0) -> Tensors:
        """Random float64 tensors of which every one matters: scales 0.7 to 1.3 of their effective value."""
        source = torch.Generator().manual_seed(seed)
        return {key: _hot(key, shape, sizes, source) for key, shape in self.keys(sizes).items()}


def _hot(key: str, shape: tuple[int, ...], sizes: Sizes, source: torch.Generator) -> Tensor:
    noise = torch.rand(shape, generator=source, dtype=torch.float64) * 2 - 1
    name = key.removesuffix(".weight").rpartition(".")[2]
    if name.endswith("bias"):
        return 0.2 * noise
    if len(shape) == 2:
        return torch.randn(shape, generator=source, dtype=torch.float64) * 1.5 * shape[-1] ** -0.5
    if "alpha" in name or name.startswith("lr_"):  # effective 0.4, both signs
        return noise.sign() * 0.4 * (1 + 0.3 * noise.abs()) * (sizes.b / 0.05 if "alpha" in name else 1.0)
    return (1 + 0.3 * noise) * (sizes.b if name in ("sqk", "sz") else 1.0)


# The tutorial.


def tutorial_architecture(sizes: Sizes) -> dict[str, Any]:
    return {
        "block_cls": "ngpt",
        "residual": "add",
        "attn_alpha": dict(ONE),
        "mlp_alpha": dict(ONE),
        "norm": {"norm_cls": "l2"},
        "mixer": {
            "mixer_cls": "mha",
            "bias": False,
            "out_bias": False,
            "softmax_scale": sizes.h**0.5,
            "rotary_formula": "pow",
            "qk_l2_norm": True,
            "qk_scale": dict(ONE),
            "attn_fn": "masked_linear",
            "masked_score": -1e8,
        },
        "mlp": {"mlp_cls": "glu_scaled", "bias": False, "act_fn": "silu", "uv_scale": {**ONE, "used": False}},
        "head": {"head_cls": "causal_lm", "use_bias": True, "use_norm": False},
    }


def halves(x: Tensor, sizes: Sizes) -> Tensor:
    """Rows of every head from pairs (2i, 2i + 1) to halves."""
    rows = x.unflatten(0, (sizes.heads, sizes.h))
    return torch.cat((rows[:, 0::2], rows[:, 1::2]), dim=1).flatten(0, 1)


def tutorial_ours(t: Tensors, sizes: Sizes) -> Tensors:
    head = f"layers.{sizes.layers + 1}.linear."
    found = {"layers.0.wte.weight": t["embedding_layer.weight"]}
    for i in range(sizes.layers):
        p, ours = f"decoders.{i}.", f"layers.{i + 1}."
        q, k = (halves(t[f"{p}atten.{name}.weight"], sizes) for name in "qk")
        found |= {
            ours + "attn.Wqkv.weight": torch.cat((q, k, t[p + "atten.v.weight"])),
            ours + "attn.out_proj.weight": t[p + "atten.o.weight"],
            ours + "attn.qk_scale.weight": halves(t[p + "atten.S_qk"], sizes),
            ours + "mlp.fc1.weight": t[p + "mlp.fc1.weight"],
            ours + "mlp.fc2.weight": t[p + "mlp.fc2.weight"],
            ours + "mlp.uv_scale.weight": t[p + "mlp.S_uv"],
            ours + "attn_alpha.weight": t[p + "lr_atten"],
            ours + "mlp_alpha.weight": t[p + "lr_mlp"],
        }
    return {**found, head + "weight": t["outlayer.weight"], head + "bias": t["outlayer.bias"]}


# NVIDIA.


def nvidia_architecture(sizes: Sizes, bias: bool = False) -> dict[str, Any]:
    rate, scale = {"init": 0.05, "scaling": sizes.b}, {"init": 1.0, "scaling": sizes.b}
    return {
        "block_cls": "ngpt",
        "residual": "lerp",
        "attn_alpha": dict(rate),
        "mlp_alpha": dict(rate),
        "norm": {"norm_cls": "l2"},
        "mixer": {
            "mixer_cls": "mha",
            "bias": bias,
            "out_bias": bias,
            "softmax_scale": sizes.h**0.5,
            "rotary_style": "ngpt_nvidia",
            "rotary_formula": "exp",
            "qk_l2_norm": True,
            "qk_scale": dict(scale),
        },
        "mlp": {
            "mlp_cls": "glu_scaled",
            "bias": bias,
            "act_fn": "silu",
            "uv_scale": {"init": sizes.d**0.5, "scaling": 1.0},
        },
        "head": {"head_cls": "causal_lm", "use_bias": False, "use_norm": False, "logit_scale": dict(scale)},
    }


def baseline_architecture(sizes: Sizes, bias: bool = False) -> dict[str, Any]:
    mixer = {"mixer_cls": "mha", "bias": bias, "rotary_style": "ngpt_nvidia", "rotary_formula": "exp"}
    return {
        "block_cls": "sequential",
        "norm": {"norm_cls": "rms", "eps": 1e-6},
        "mixer": mixer,
        "mlp": {"mlp_cls": "glu_bias" if bias else "glu", "act_fn": "silu"},
        "head": {"head_cls": "causal_lm", "use_bias": False},
    }


NVIDIA_NAMES = {
    "att_c_proj": "attn.out_proj",
    "c_fc": "mlp.fc1",
    "mlp_c_proj": "mlp.fc2",
    "sqk": "attn.qk_scale.weight",
    "suv": "mlp.uv_scale.weight",
    "attn_alpha": "attn_alpha.weight",
    "mlp_alpha": "mlp_alpha.weight",
    "rmsnorm_att": "ln_1",
    "rmsnorm_mlp": "ln_2",
}


def nvidia_ours(t: Tensors, sizes: Sizes) -> Tensors:
    head = f"layers.{sizes.layers + 1}."
    found = {"layers.0.wte.weight": t["transformer.wte.weight"], head + "linear.weight": t["lm_head.weight"]}
    for name, ours in (("sz", "logit_scale.weight"), ("rmsnorm_f.weight", "ln.weight")):
        if name in t:
            found[head + ours] = t[name]
    for i in range(sizes.layers):
        p, ours = f"transformer.h.{i}.", f"layers.{i + 1}."
        for kind in ("weight", "bias"):
            if f"{p}query.{kind}" in t:
                parts = [t[f"{p}{name}.{kind}"] for name in ("query", "key", "value")]
                found[f"{ours}attn.Wqkv.{kind}"] = torch.cat(parts)
        for key, tensor in t.items():
            name, _, kind = key.removeprefix(p).partition(".")
            if key.startswith(p) and name in NVIDIA_NAMES:
                found[ours + NVIDIA_NAMES[name] + (f".{kind}" if kind else "")] = tensor
    return found


TUTORIAL = Dialect("tutorial", theirs.tutorial_keys, theirs.tutorial_logits, tutorial_architecture, tutorial_ours)
NVIDIA = Dialect("nvidia", theirs.nvidia_keys, theirs.nvidia_logits, nvidia_architecture, nvidia_ours)
NVIDIA_BIAS = Dialect(
    "nvidia with biases",
    lambda s: theirs.nvidia_keys(s, bias=True),
    theirs.nvidia_logits,
    lambda s: nvidia_architecture(s, bias=True),
    nvidia_ours,
)
BASELINE = Dialect(
    "use_nGPT 0", lambda s: theirs.nvidia_keys(s, ngpt=False), theirs.nvidia_logits, baseline_architecture, nvidia_ours
)
BASELINE_BIAS = Dialect(
    "use_nGPT 0 with biases",
    lambda s: theirs.nvidia_keys(s, ngpt=False, bias=True),
    theirs.nvidia_logits,
    lambda s: baseline_architecture(s, bias=True),
    nvidia_ours,
)
DIALECTS = {dialect.name: dialect for dialect in (TUTORIAL, NVIDIA, NVIDIA_BIAS, BASELINE, BASELINE_BIAS)}


@pytest.fixture(params=list(DIALECTS))
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Each dialect."""
    return DIALECTS[request.param]


@pytest.fixture(params=["tutorial", "nvidia"])
def ngpt(request: pytest.FixtureRequest) -> Dialect:
    """Each dialect of nGPT proper."""
    return DIALECTS[request.param]


@pytest.fixture
def tutorial() -> Dialect:
    """The tutorial's dialect."""
    return TUTORIAL


@pytest.fixture
def nvidia() -> Dialect:
    """NVIDIA's dialect with use_nGPT 1."""
    return NVIDIA


@pytest.fixture
def sizes() -> type[Sizes]:
    """Makes sizes: width 16, 2 heads, 2 layers and 32 tokens where nothing else is said."""
    return Sizes


@pytest.fixture
def dialects() -> dict[str, Dialect]:
    """All dialects by name."""
    return DIALECTS
