"""Learned scales: their values, dtypes and beginnings, through casts, files and resizing; and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM
from mixformer.blocks.learned_scale import LearnedScale, ScaleSpec
from mixformer.errors import ConfigurationError, UnknownKeywordError

NAMES = ("qk_scale", "uv_scale", "attn_alpha", "mlp_alpha", "logit_scale")


def scales_of(model: nn.Module) -> dict[str, LearnedScale]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LearnedScale)}


def float_model(dialect: Any, sizes: Any) -> MixFormerSequentialForCausalLM:
    tensors = {key: tensor.float() for key, tensor in dialect.hot(sizes()).items()}
    return dialect.model(tensors, sizes())


def test_a_scale_begins_at_scaling_and_counts_as_init(ngpt: Any, sizes: Any) -> None:
    size = sizes()
    model = ngpt.model(ngpt.hot(size), size)
    fresh = MixFormerSequentialForCausalLM(model.config)
    found = scales_of(fresh)
    assert {name.rpartition(".")[2] for name in found} == set(NAMES[: 4 if ngpt.name == "tutorial" else 5])
    for name, scale in found.items():
        assert bool((scale.weight == scale.spec.scaling).all()), name
        assert torch.allclose(scale.effective(torch.float32), torch.tensor(float(scale.spec.init))), name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_loading_in_half_precision_keeps_scales_in_float32(ngpt: Any, sizes: Any, tmp_path: Path, dtype: str) -> None:
    model = float_model(ngpt, sizes)
    model.save_pretrained(tmp_path / "first")
    narrow = MixFormerSequentialForCausalLM.from_pretrained(tmp_path / "first", dtype=dtype)
    assert narrow.layers[1].mlp.fc1.weight.dtype == getattr(torch, dtype)
    narrow.save_pretrained(tmp_path / "second")
    saved = load_file(tmp_path / "second" / "model.safetensors")
    before = scales_of(model)
    for name, scale in scales_of(narrow).items():
        assert scale.weight.dtype == torch.float32
        assert scale.weight.unique().numel() > 1
        assert torch.equal(scale.weight, before[name].weight), name
        assert torch.equal(saved[f"{name}.weight"], before[name].weight), name
    assert saved["layers.1.mlp.fc1.weight"].dtype == getattr(torch, dtype)


def test_a_scale_without_protection_would_be_rounded(ngpt: Any, sizes: Any) -> None:
    scale = float_model(ngpt, sizes).layers[1].attn.qk_scale.weight
    assert not torch.equal(scale.bfloat16().float(), scale)


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.bfloat16, lambda m: m.to(torch.bfloat16)])
def test_casting_keeps_scales_in_float32(ngpt: Any, sizes: Any, cast: Any) -> None:
    model = float_model(ngpt, sizes)
    before = {name: scale.weight.clone() for name, scale in scales_of(model).items()}
    for name, scale in scales_of(cast(model)).items():
        assert scale.weight.dtype == torch.float32
        assert torch.equal(scale.weight, before[name])
    assert model.layers[1].mlp.fc1.weight.dtype != torch.float32
    assert all(scale.weight.dtype == torch.float64 for scale in scales_of(model.double()).values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_scale_that_a_checkpoint_lacks_begins_at_scaling(ngpt: Any, sizes: Any, tmp_path: Path, dtype: str) -> None:
    model = float_model(ngpt, sizes)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    kept = {key: tensor for key, tensor in load_file(file).items() if not any(name in key for name in NAMES)}
    save_file(kept, file, metadata={"format": "pt"})
    loaded = MixFormerSequentialForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    for name, scale in scales_of(loaded).items():
        assert scale.weight.dtype == torch.float32
        assert bool((scale.weight == scale.spec.scaling).all()), name
    weight = model.layers[1].mlp.fc1.weight.to(loaded.dtype)
    assert torch.equal(loaded.layers[1].mlp.fc1.weight, weight)


def test_an_unused_scale_is_saved_and_not_trained(tutorial: Any, nvidia: Any, sizes: Any, tmp_path: Path) -> None:
    model = float_model(tutorial, sizes)
    stored = model.layers[1].mlp.uv_scale.weight
    assert stored.unique().numel() > 1
    model.save_pretrained(tmp_path)
    loaded = MixFormerSequentialForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(loaded.layers[1].mlp.uv_scale.weight, stored)
    for one in (model, loaded):
        assert not [name for name, _ in one.named_parameters() if "uv_scale" in name]
        assert all(parameter.requires_grad for parameter in one.parameters())
    other = float_model(nvidia, sizes)
    assert [name for name, _ in other.named_parameters() if "uv_scale" in name]
    ids = torch.arange(8)[None]
    for one in (loaded, other):
        one(ids, labels=ids).loss.backward()
        assert all(parameter.grad is not None for parameter in one.parameters())


def test_a_model_built_on_the_meta_device_has_all_scales(ngpt: Any, sizes: Any) -> None:
    model = float_model(ngpt, sizes)
    with torch.device("meta"):
        empty = MixFormerSequentialForCausalLM(copy.deepcopy(model.config))
    assert {k: v.shape for k, v in empty.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    filled = empty.to_empty(device="cpu")
    filled.load_state_dict(model.state_dict())
    ids = torch.arange(8)[None]
    assert torch.equal(filled.eval()(ids).logits, model(ids).logits)


@pytest.mark.parametrize("size", [20, 40])
def test_resizing_the_vocabulary_resizes_the_scale_of_logits(nvidia: Any, sizes: Any, size: int) -> None:
    model = float_model(nvidia, sizes)
    ids = torch.arange(8)[None]
    before, old = model(ids).logits, model.layers[-1].logit_scale.weight.clone()
    model.resize_token_embeddings(size)
    found = model.layers[-1].logit_scale.weight
    assert found.shape == (size,)
    assert found.requires_grad
    assert torch.equal(found[:20], old[:20])
    assert bool((found[32:] == 0.25).all())
    assert torch.equal(model(ids).logits[..., :20], before[..., :20])


def test_a_scale_rounds_once_and_an_unused_one_not_at_all() -> None:
    x = torch.randn(5, 7).bfloat16()
    scale = LearnedScale(7, ScaleSpec(init=2.0, scaling=0.3))
    nn.init.normal_(scale.weight)
    exact = x.float() * (scale.weight * (2.0 / 0.3))
    assert torch.equal(scale(x), exact.bfloat16())
    unused = LearnedScale(7, ScaleSpec(2.0, 0.3, used=False))
    assert unused(x) is x


def test_the_configuration_survives_a_file(ngpt: Any, sizes: Any, tmp_path: Path) -> None:
    model = float_model(ngpt, sizes)
    model.config.save_pretrained(tmp_path)
    assert MixFormerSequentialConfig.from_pretrained(tmp_path).architecture == model.config.architecture


ONE = {"init": 1.0, "scaling": 1.0}
REFUSED: dict[str, tuple[str, Any, str]] = {
    "no rates": ("attn_alpha", None, r"architecture\.attn_alpha"),
    "no residual": ("residual", None, r"architecture\.residual"),
    "unknown residual": ("residual", "slerp", "one of"),
    "a word for signed rates": ("signed_rates", "false", r"architecture\.signed_rates"),
    "a word for the stream": ("normalize_stream", "false", r"architecture\.normalize_stream"),
    "another norm": ("norm", {"norm_cls": "rms"}, r"architecture\.norm"),
    "a scale without scaling": ("mlp_alpha", {"init": 1.0}, r"architecture\.mlp_alpha"),
    "a scaling of 0": ("mlp_alpha", {"init": 1.0, "scaling": 0.0}, "other than 0"),
    "a scaling of true": ("mlp_alpha", {"init": 1.0, "scaling": True}, "other than 0"),
    "a scaling that is not finite": ("mlp_alpha", {"init": 1.0, "scaling": float("inf")}, "other than 0"),
    "an unknown key": ("mlp_alpha", {**ONE, "gain": 2.0}, r"mlp_alpha\.gain"),
    "used as a word": ("mlp_alpha", {**ONE, "used": "no"}, r"mlp_alpha\.used"),
    "no scale of u and v": ("mlp.uv_scale", None, r"architecture\.mlp\.uv_scale"),
    "unknown style": ("mixer.rotary_style", "interleaved", r"rotary_style"),
    "unknown formula": ("mixer.rotary_formula", "log", r"rotary_formula"),
    "odd turn of a part": ("mixer", {"rotary_style": "ngpt_nvidia", "rotary_dim": 4}, r"rotary_dim"),
    "formula without rotary": ("mixer.rotary_dim", 0, "default kind"),
    "formula beside another kind": ("mixer.rope_parameters", {"rope_type": "linear", "factor": 2.0}, "default kind"),
    "formula beside yarn": ("mixer.rope_scaling", {"type": "yarn"}, "default kind"),
    "fewer heads of k": ("mixer.n_head_kv", 1, "share qk_scale"),
    "unknown attention": ("mixer.attn_fn", "linear", "attn_fn"),
    "no masked score": ("mixer.masked_score", None, "masked_score"),
    "an infinite masked score": ("mixer.masked_score", float("-inf"), "masked_score"),
    "masked score of a softmax": ("mixer.attn_fn", "softmax", "masked_score"),
    "a window": ("mixer.window_size", 4, "window_size"),
    "alibi": ("mixer.use_alibi", True, "use_alibi"),
    "softcap": ("mixer.softcap", 5.0, "softcap"),
    "dropout": ("mixer.dropout", 0.1, "dropout"),
    "not causal": ("mixer.causal", False, "causal"),
    "scale of logits as a number": ("head.logit_scale", 2.0, r"head\.logit_scale"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_contradicts_itself_is_refused_by_path(tutorial: Any, sizes: Any, name: str) -> None:
    place, value, why = REFUSED[name]
    architecture = tutorial.architecture(sizes())
    part, _, keyword = place.rpartition(".")
    if place == "mixer":
        architecture["mixer"].update(value)
    else:
        (architecture[part] if part else architecture)[keyword] = value
    config = {"n_embd": 16, "n_head": 2, "n_layer": 1, "vocab_size": 32, "architecture": architecture}
    with pytest.raises(ConfigurationError, match=why):
        MixFormerSequentialForCausalLM(MixFormerSequentialConfig(**config))


def test_norms_heads_and_blocks_take_no_unknown_keywords(tutorial: Any, sizes: Any) -> None:
    for part, keyword in (("norm", "weight"), ("mlp", "gain"), ("head", "scale")):
        architecture = tutorial.architecture(sizes())
        architecture[part][keyword] = 1e-6
        with pytest.raises(ConfigurationError):
            MixFormerSequentialForCausalLM(MixFormerSequentialConfig(n_layer=1, architecture=architecture))
    architecture = {**tutorial.architecture(sizes()), "alpha_abs": True}
    with pytest.raises(UnknownKeywordError, match="alpha_abs"):
        MixFormerSequentialForCausalLM(MixFormerSequentialConfig(n_layer=1, architecture=architecture))
