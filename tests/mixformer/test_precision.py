"""Derived buffers keep float32 through casts, never hold memory nobody wrote, and are no part of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from mixformer import MixFormerSequentialForCausalLM
from mixformer.blocks.mixers import MIXERS
from mixformer.blocks.mixers.rope import ROPE_TYPES, Frequencies
from mixformer.blocks.mixers.sdk_yarn import SdkYarn, YarnOptions

Build = Callable[..., MixFormerSequentialForCausalLM]

ALIBI = {"mixer": {"mixer_cls": "mha", "use_alibi": True, "rotary_base": 777.0}}
FREQUENCIES = 1.0 / (777.0 ** (torch.arange(0, 8, 2, dtype=torch.float32) / 8))


def buffers(model: nn.Module) -> tuple[Tensor, Tensor]:
    mixer = model.layers[1].mixer
    return mixer.rotary_emb.inv_freq, mixer.inner_attn.alibi_slopes


@pytest.mark.parametrize(
    ("cast", "dtype"),
    [
        (lambda m: m.half(), torch.float32),
        (lambda m: m.bfloat16(), torch.float32),
        (lambda m: m.to(torch.bfloat16), torch.float32),
        (lambda m: m.double(), torch.float64),
        (lambda m: m.double().half(), torch.float32),
        (lambda m: m.half().float(), torch.float32),
        (lambda m: m.half().double(), torch.float64),
    ],
    ids=["half", "bfloat16", "to", "double", "double half", "half float", "half double"],
)
def test_derived_buffers_never_fall_below_float32(build: Build, cast: Any, dtype: torch.dtype) -> None:
    model = cast(build(architecture=ALIBI).float())
    inv_freq, slopes = buffers(model)
    assert inv_freq.dtype == slopes.dtype == dtype
    assert torch.equal(inv_freq, FREQUENCIES.to(dtype))
    assert torch.equal(slopes, torch.tensor([0.25, 0.0625, 0.015625, 0.00390625], dtype=dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_loading_in_any_dtype_fills_derived_buffers(build: Build, tmp_path: Path, dtype: str) -> None:
    build(architecture=ALIBI).save_pretrained(tmp_path)
    model = MixFormerSequentialForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    assert model.dtype == getattr(torch, dtype)
    inv_freq, slopes = buffers(model)
    assert torch.equal(inv_freq, FREQUENCIES)
    assert slopes.tolist() == [0.25, 0.0625, 0.015625, 0.00390625]


def test_a_model_built_on_the_meta_device_fills_them_when_it_comes_off(build: Build) -> None:
    config = build(architecture=ALIBI).config
    with torch.device("meta"):
        model = MixFormerSequentialForCausalLM(config)
    assert all(x.is_meta for x in buffers(model))
    inv_freq, slopes = buffers(model.to_empty(device="cpu"))
    assert torch.equal(inv_freq, FREQUENCIES)
    assert slopes.tolist() == [0.25, 0.0625, 0.015625, 0.00390625]


def test_derived_buffers_are_no_part_of_the_state_dict(build: Build) -> None:
    assert not [key for key in build(architecture=ALIBI).state_dict() if "inv_freq" in key or "slopes" in key]


def test_frequencies_are_computed_outside_the_forward_pass(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    monkeypatch.setattr(Frequencies, "compute", lambda *args: pytest.fail("computed in a forward pass"))
    model(torch.zeros(1, 3, dtype=torch.long))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_logits_have_the_dtype_of_the_model(build: Build, dtype: torch.dtype) -> None:
    model = build().to(dtype)
    out = model(torch.randint(0, 61, (2, 9)), labels=torch.randint(0, 61, (2, 9)))
    assert out.logits.dtype == dtype
    assert out.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("norm", ["torch", "low_precision", "rms", "flash_rms"])
@pytest.mark.parametrize("block", ["parallel", "sequential"])
def test_float64_has_no_narrow_island(build: Build, norm: str, block: str) -> None:
    """A change of one part in 10^11 of the weights reaches the logits; a float32 step on the way would swallow it."""
    architecture = {
        "block_cls": block,
        "norm": {"norm_cls": norm},
        "mixer": {"mixer_cls": "mha", "qk_norm": True, "softcap": 5.0, "use_alibi": True},
    }
    model, ids = build(architecture=architecture), torch.randint(0, 61, (1, 9))
    for attn in ("eager", "sdpa"):
        model.set_attn_implementation(attn)
        before = model(ids).logits
        model.layers[0].wte.weight.data *= 1 + 1e-11
        changes = (model(ids).logits - before).abs()
        assert 1e-14 < float(changes.max().detach()) < 1e-8
        assert (changes > 0).double().mean() > 0.9


def test_parts_may_ask_for_float32_weights(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Scaled(nn.Module):
        keep_in_fp32 = ("scale",)

        def __init__(self, config: Any) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(config.n_embd))

        def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
            return (x * self.scale).to(x.dtype)

    monkeypatch.setitem(MIXERS, "scaled", Scaled)
    build(architecture={"mixer": {"mixer_cls": "scaled"}}).float().save_pretrained(tmp_path)
    model = MixFormerSequentialForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.layers[1].mixer.scale.dtype == torch.float32
    assert model.layers[1].ln.weight.dtype == torch.bfloat16
    assert model(torch.zeros(1, 3, dtype=torch.long)).logits.dtype == torch.bfloat16


def yarn_reference(factor: float, extrapolation: float = 1.0) -> Tensor:
    """The formula of the paper for 8 dimensions, 64 positions, base 10000, one dimension at a time."""
    result = []
    low, high = (8 * math.log(64 / (turns * 2 * math.pi)) / (2 * math.log(1e4)) for turns in (32, 1))
    low, high = max(math.floor(low), 0), min(math.ceil(high), 7)
    for i in range(4):
        ramp = min(max((i - low) / (high - low), 0.0), 1.0)
        plain = 1e4 ** (-2 * i / 8)
        share = (1 - ramp) * extrapolation
        result.append(plain / factor * (1 - share) + plain * share)
    return torch.tensor(result)


def test_yarn_in_the_sdks_spelling_follows_its_formula() -> None:
    cpu = torch.device("cpu")
    found, mscale = SdkYarn(8, 1e4, 64, 4.0, YarnOptions()).compute(cpu)
    assert torch.allclose(found, yarn_reference(4.0), rtol=1e-6)
    assert mscale == pytest.approx(0.1 * 1.3862943611 + 1)
    found, mscale = SdkYarn(8, 1e4, 64, 4.0, YarnOptions(extrapolation_factor=0.5, attn_factor=2.0)).compute(cpu)
    assert torch.allclose(found, yarn_reference(4.0, 0.5), rtol=1e-6)
    assert mscale == pytest.approx(2 * (0.1 * 1.3862943611 + 1))
    assert SdkYarn(8, 1e4, 64, None, YarnOptions()).compute(cpu)[1] == 1.0


def test_dynamic_yarn_scales_by_the_length_beyond_n_positions() -> None:
    yarn = SdkYarn(8, 1e4, 64, None, YarnOptions(dynamic=True))
    resting, _ = yarn.compute(torch.device("cpu"))
    short, factor = yarn.for_length(resting, torch.tensor(64))
    assert torch.equal(short, resting)
    assert float(factor) == 1.0
    long, factor = yarn.for_length(resting, torch.tensor(128))
    assert torch.allclose(long, yarn_reference(2.0), rtol=1e-6)
    assert float(factor) == pytest.approx(0.1 * 0.6931471806 + 1)


def test_dynamic_yarn_of_a_finetuned_model_is_stretched_by_its_factor_up_to_n_positions() -> None:
    yarn = SdkYarn(8, 1e4, 64, 4.0, YarnOptions(dynamic=True, finetuned=True))
    resting, _ = yarn.compute(torch.device("cpu"))
    assert torch.allclose(resting, yarn_reference(4.0), rtol=1e-6)
    short, factor = yarn.for_length(resting, torch.tensor(64))
    assert torch.equal(short, resting) and float(factor) == pytest.approx(0.1 * 1.3862943611 + 1)
    long, factor = yarn.for_length(resting, torch.tensor(128))
    assert torch.allclose(long, yarn_reference(2.0), rtol=1e-6)
    assert float(factor) == pytest.approx(0.1 * 0.6931471806 + 1)
    plain, factor = SdkYarn(8, 1e4, 64, 4.0, YarnOptions(dynamic=True)).compute(torch.device("cpu"))
    assert torch.equal(plain, Frequencies(8, 1e4, None, 64, "").compute(torch.device("cpu"))[0])
    assert factor == pytest.approx(0.1 * 1.3862943611 + 1)


def test_logits_of_a_finetuned_dynamic_model_are_those_of_the_static_one_up_to_n_positions(build: Build) -> None:
    """And not those of a factor of 1, which it once had; beyond n_positions the length takes over."""

    def logits(length: int, **rope_scaling: Any) -> Tensor:
        torch.manual_seed(3)
        rope = {"rope_scaling": {"type": "yarn", **rope_scaling}, "rotary_scale_base": 4.0}
        model = build(architecture={"mixer": {"mixer_cls": "mha", **rope}}, n_positions=16)
        return model(torch.arange(length)[None]).logits.detach()

    finetuned = {"dynamic": True, "finetuned": True}
    assert torch.equal(logits(16, **finetuned), logits(16))
    assert (logits(16, **finetuned) - logits(16, dynamic=True)).abs().max() > 1e-2
    assert torch.equal(logits(32, **finetuned), logits(32, dynamic=True))
    assert (logits(32, **finetuned) - logits(32)).abs().max() > 1e-2
    assert torch.equal(logits(16, pos_idx_in_fp32=True), logits(16))


PLAIN_ROPE: list[dict[str, Any]] = [
    {}, {"type": "default"}, {"rope_type": "default", "rope_theta": 500.0}, {"rope_type": None}, {"type": None}
]  # fmt: skip


@pytest.mark.parametrize("rope_scaling", PLAIN_ROPE, ids=str)
def test_a_rope_scaling_that_says_nothing_is_none(build: Build, rope_scaling: dict[str, Any]) -> None:
    built = build(architecture={"mixer": {"mixer_cls": "mha", "rotary_base": 500.0, "rope_scaling": rope_scaling}})
    again = build(architecture={"mixer": {"mixer_cls": "mha", "rotary_base": 500.0}})
    frequencies = [model.layers[1].mixer.rotary_emb.inv_freq for model in (built, again)]
    assert torch.equal(*frequencies)


REFUSED_ROPE: list[tuple[dict[str, Any], str]] = [
    ({"rope_type": "default", "rope_theta": 1e6}, "must be 'yarn'"),
    ({"factor": 2.0}, "must be 'yarn'"),
    ({"type": "yarn", "pos_idx_in_fp32": False}, "pos_idx_in_fp32` must be true, but got False"),
]


@pytest.mark.parametrize(("rope_scaling", "why"), REFUSED_ROPE, ids=str)
def test_a_rope_scaling_that_would_be_ignored_is_refused(build: Build, rope_scaling: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        build(architecture={"mixer": {"mixer_cls": "mha", "rope_scaling": rope_scaling}})


def test_every_rope_kind_of_transformers_that_is_listed_exists_there() -> None:
    assert set(ROPE_TYPES) - {"default"} <= set(ROPE_INIT_FUNCTIONS)


def test_a_zero_centered_norm_keeps_its_weights_through_loading(build: Build, tmp_path: Path) -> None:
    model = build(architecture={"norm": {"norm_cls": "flash_rms", "zero_centered_weight": True}})
    model.save_pretrained(tmp_path)
    again = MixFormerSequentialForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again.layers[1].ln.weight, model.layers[1].ln.weight)
    assert float(model.layers[1].ln.weight.detach().abs().sum()) > 0
