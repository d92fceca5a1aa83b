"""A part with a dtype of its own: it runs in a model of any other, and keeps the precision that it was given."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mixformer import MixFormerSequentialForCausalLM

Build = Callable[..., MixFormerSequentialForCausalLM]
Rms = Callable[[Tensor, Tensor], float]

IDS = torch.arange(18).reshape(2, 9)
DTYPES = ("float32", "bfloat16", "float64", "float16")
QK = {"mixer": {"mixer_cls": "mha", "qk_norm": True}}
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "head": ("head", {"head": {"head_cls": "causal_lm"}}),
    "mlp": ("mlp", {"mlp": {"mlp_cls": "mlp"}}),
    "fused_mlp": ("mlp", {"mlp": {"mlp_cls": "fused_mlp"}}),
    "glu": ("mlp", {"mlp": {"mlp_cls": "glu"}}),
    "glu_bias": ("mlp", {"mlp": {"mlp_cls": "glu_bias"}}),
    "glu_scaled": ("mlp", {"mlp": {"mlp_cls": "glu_scaled", "uv_scale": {"init": 1.0, "scaling": 0.5}}}),
    "torch": ("norm", {"norm": {"norm_cls": "torch"}}),
    "torch without weights": ("norm", {"norm": {"norm_cls": "torch", "elementwise_affine": False}}),
    "torch on heads": ("norm", {**QK, "norm": {"norm_cls": "torch"}}),
    "low_precision": ("norm", {"norm": {"norm_cls": "low_precision"}}),
    "rms": ("norm", {**QK, "norm": {"norm_cls": "rms"}}),
    "flash_rms": ("norm", {"norm": {"norm_cls": "flash_rms"}}),
}


def architecture(part: str, dtype: str | None) -> dict[str, Any]:
    place, given = PARTS[part]
    given = copy.deepcopy({"block_cls": "sequential", **given})
    given[place]["dtype"] = dtype
    return given


def saved(build: Build, place: Path, part: str, dtype: str | None) -> MixFormerSequentialForCausalLM:
    """A float32 model with a part of another dtype, saved; given back in float64 all through."""
    model = build(architecture=architecture(part, dtype)).float()
    model.save_pretrained(place)
    return model.double()


@pytest.mark.parametrize("loaded", DTYPES)
@pytest.mark.parametrize("own", DTYPES)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_with_a_dtype_runs_in_a_model_loaded_in_any(
    build: Build, tmp_path: Path, relative_rms: Rms, part: str, own: str, loaded: str
) -> None:
    truth = saved(build, tmp_path, part, own)(IDS).logits
    model = MixFormerSequentialForCausalLM.from_pretrained(tmp_path, dtype=getattr(torch, loaded))
    out = model(IDS, labels=IDS)
    assert out.logits.dtype == getattr(torch, own if part == "head" else loaded)
    coarsest = max(torch.finfo(getattr(torch, name)).eps for name in (own, loaded))
    assert relative_rms(out.logits.double(), truth) <= max(12 * coarsest, 1e-6)  # saved in float32
    out.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("part", [part for part in PARTS if part != "torch without weights"])
def test_a_part_keeps_its_dtype_when_built_and_loaded(build: Build, tmp_path: Path, part: str) -> None:
    saved(build, tmp_path, part, "float32")
    model = MixFormerSequentialForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16, torch.float32}
    cast = model.to(torch.bfloat16)
    assert cast(IDS).logits.dtype == torch.bfloat16


@pytest.mark.parametrize("part", ["mlp", "glu", "head"])
def test_a_wider_part_is_computed_wider(build: Build, tmp_path: Path, relative_rms: Rms, part: str) -> None:
    """Else the dtype would be a word without an effect: the same weights in bfloat16 all through err more."""
    truth = saved(build, tmp_path, part, "float32")
    wide = MixFormerSequentialForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)

    def of(model: MixFormerSequentialForCausalLM) -> torch.nn.Module:
        return model.layers[-1] if part == "head" else model.layers[1].mlp

    x = torch.randn(2, 5, 32, dtype=torch.bfloat16)
    expected = of(truth)(x.double())
    errors = [relative_rms(of(model)(x).double(), expected) for model in (wide, copy.deepcopy(wide).bfloat16())]
    assert errors[0] <= 0.85 * errors[1]


def test_a_tied_head_has_the_dtype_of_the_embedding(build: Build, tmp_path: Path) -> None:
    model = build(architecture=architecture("head", "bfloat16"), tie_word_embeddings=True).float()
    assert model(IDS).logits.dtype == torch.float32
    model.save_pretrained(tmp_path)
    again = MixFormerSequentialForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("part", PARTS)
def test_without_a_dtype_nothing_changes(build: Build, part: str) -> None:
    torch.manual_seed(5)
    said = build(architecture=architecture(part, None)).bfloat16()
    torch.manual_seed(5)
    silent = build(architecture={"block_cls": "sequential", **PARTS[part][1]}).bfloat16()
    assert torch.equal(said(IDS).logits, silent(IDS).logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(said.float()(IDS).logits).all()
