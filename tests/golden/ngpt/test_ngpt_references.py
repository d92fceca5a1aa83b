"""The references of nGPT's dialects: numbers that anybody can rebuild, every precision, files that are only read."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from converters import convert
from converters.checkpoint.users_word import HEADS
from golden import compare
from golden.errors import FolderError
from golden.models.hot import make_hot
from golden.models.loading import load_model
from golden.models.running import ModelRunner
from golden.references import load_native, ngpt_nvidia, ngpt_tutorial

FIXED = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
GOLDEN = {
    "tutorial": (-8.075249, [-0.991338, -0.613009, 1.065004, 0.598687]),
    "nvidia": (-3.764602, [8.247917, -8.185532, -11.077988, 2.739567]),
}
DIALECTS = {
    "tutorial": ("ngpt-tutorial", {}),
    "tutorial without rates": ("ngpt-tutorial", {"learned_rates": False}),
    "nvidia": ("ngpt-nvidia", {}),
    "nvidia with biases": ("ngpt-nvidia", {"bias": True}),
    "nvidia, use_nGPT 0": ("ngpt-nvidia", {"use_nGPT": 0}),
    "nvidia, use_nGPT 0, with biases": ("ngpt-nvidia", {"use_nGPT": 0, "bias": True}),
}


def some_ids(length: int) -> tuple[int, ...]:
    return tuple(torch.randint(0, 37, (length,), generator=torch.Generator().manual_seed(length)).tolist())


def distance(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth.double()).square().mean().sqrt() / truth.double().std())


@torch.no_grad()
def logits(model: Any, ids: Tensor) -> Tensor:
    found: Tensor = model(input_ids=ids).logits
    return found


def by_sines(name: str, ngpt: Any, place: Path) -> Path:
    """The file of a dialect that anybody can rebuild."""
    args = ngpt.nvidia_args(n_embd=16, n_head=2, vocab_size=32, base_scale=0.25)
    if name == "nvidia":
        ngpt.save_nvidia(place / "ckpt.pt", ngpt.by_sines(ngpt.nvidia_shapes(args)), args)
        return place / "ckpt.pt"
    torch.save(ngpt.by_sines(ngpt.tutorial_shapes(16, 32, 2)), place / "model.pt")
    return place / "model.pt"


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_numbers(name: str, ngpt: Any, tmp_path: Path) -> None:
    with HEADS.said(2):
        found = logits(load_native(by_sines(name, ngpt, tmp_path), torch.float32, "eager"), FIXED)
    total, row = GOLDEN[name]
    assert found.dtype is torch.float32
    assert float(found.sum()) == pytest.approx(total, abs=1e-4)
    assert found[0, -1, :4].tolist() == pytest.approx(row, abs=1e-5)


def test_golden_numbers_see_a_wrong_head_count(ngpt: Any, tmp_path: Path) -> None:
    with HEADS.said(4):
        found = logits(load_native(by_sines("tutorial", ngpt, tmp_path), torch.float32, "eager"), FIXED)
    assert float(found.sum()) != pytest.approx(GOLDEN["tutorial"][0], abs=1e-3)


@pytest.mark.parametrize(("d", "heads"), [(24, 4), (60, 6), (128, 2)], ids=["h 6", "h 10", "h 64"])
@pytest.mark.parametrize("name", DIALECTS)
def test_a_conversion_equals_its_reference_in_short_and_long_texts(
    name: str, d: int, heads: int, tmp_path: Path
) -> None:
    family, overrides = DIALECTS[name]
    sizes = {"n_embd": d, "n_head": heads, "n_layer": 2, "vocab_size": 37, **overrides}
    source = make_hot(family, tmp_path / "source", **sizes)
    ours = convert(source, family, output=tmp_path / "ours").output
    reference = ModelRunner(load_model(source, torch.float64, "eager"))
    for attn in ("eager", "sdpa"):
        candidate = ModelRunner(load_model(ours, torch.float64, attn))
        for length in (40, 400):
            ids = some_ids(length)
            assert distance(candidate.logits(ids), reference.logits(ids)) < 1e-13


@pytest.mark.parametrize("h", [2, 4, 6, 8, 10, 12, 20, 64, 128])
def test_frequencies_are_the_float32_numbers_that_were_published(h: int) -> None:
    steps = torch.arange(h // 2, dtype=torch.float32)
    assert torch.equal(ngpt_tutorial.frequencies(h), torch.pow(10000.0, -2.0 * steps / h))
    even = torch.arange(0, h, 2, dtype=torch.float32)
    assert torch.equal(ngpt_nvidia.frequencies(h), torch.exp(even * (-math.log(10000.0) / h)))
    assert ngpt_tutorial.frequencies(h).dtype is ngpt_nvidia.frequencies(h).dtype is torch.float32


@pytest.mark.parametrize("name", DIALECTS)
def test_every_precision_is_as_good_as_it_can_be(name: str, tmp_path: Path) -> None:
    family, overrides = DIALECTS[name]
    source = make_hot(family, tmp_path, **overrides)
    truth = ModelRunner(load_model(source, torch.float64)).logits(some_ids(40))
    limits = {torch.float32: (1e-9, 1e-5), torch.bfloat16: (1e-4, 5e-2), torch.float16: (1e-5, 1e-2)}
    for dtype, (least, most) in limits.items():
        if dtype is torch.float16 and family == "ngpt-tutorial":
            with pytest.raises(FolderError, match="beyond the range of float16"):
                load_model(source, dtype)
            continue
        runner = ModelRunner(load_model(source, dtype))
        assert runner.logits(some_ids(40)).dtype is dtype
        assert least < distance(runner.logits(some_ids(40)), truth) < most


def test_scales_and_frequencies_stay_float32_in_half_precision(tmp_path: Path) -> None:
    for family, scales in (("ngpt-tutorial", ("S_", "lr_")), ("ngpt-nvidia", ("sqk", "suv", "sz", "alpha"))):
        model = load_model(make_hot(family, tmp_path / family), torch.bfloat16).model
        kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
        assert {dtype for name, dtype in kinds.items() if any(s in name for s in scales)} == {torch.float32}
        assert {dtype for name, dtype in kinds.items() if not any(s in name for s in scales)} == {torch.bfloat16}
        assert model.frequencies.dtype is torch.float32


@pytest.mark.parametrize("name", DIALECTS)
def test_a_zero_vector_stays_zero(name: str, tmp_path: Path) -> None:
    """A row of zeros in the embedding, alone and among others, on both sides."""
    family, overrides = DIALECTS[name]
    source = make_hot(family, tmp_path / "source", **overrides)
    weights = load_file(source / "model.safetensors")
    weights["embedding_layer.weight" if family == "ngpt-tutorial" else "transformer.wte.weight"][5] = 0
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    ours = convert(source, family, output=tmp_path / "ours").output
    both = [ModelRunner(load_model(folder, torch.float64)) for folder in (source, ours)]
    for ids in ((5, 5, 5), (5, 1, 2, 5, 5), (1, 2, 5)):
        found, expected = (runner.logits(ids) for runner in both)
        assert bool(torch.isfinite(expected).all())
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_a_state_dict_without_rates_is_one_with_rates_of_one(ngpt: Any, tmp_path: Path) -> None:
    weights = ngpt.write_tutorial(tmp_path / "without.pt", rates=False, prefix="module._orig_mod.")
    ones = {key: torch.ones(24) for key in ngpt.tutorial_shapes(24, 37, 2) if key not in weights}
    torch.save(weights | ones, tmp_path / "with.pt")
    with HEADS.said(4):
        found = [logits(load_native(tmp_path / name, torch.float64, None), FIXED) for name in ("with.pt", "without.pt")]
    assert len(ones) == 4 and torch.equal(*found)


def test_the_tutorials_model_is_not_causal_and_its_uv_scale_has_no_effect(ngpt: Any, tmp_path: Path) -> None:
    weights = ngpt.write_tutorial(tmp_path / "model.pt")
    torch.save({k: t * torch.randn(t.shape) if "S_uv" in k else t for k, t in weights.items()}, tmp_path / "other.pt")
    with HEADS.said(4):
        model, other = (load_native(tmp_path / name, torch.float64, None) for name in ("model.pt", "other.pt"))
    found, changed = logits(model, FIXED), logits(model, torch.cat((FIXED[:, :-1], torch.tensor([[7]])), 1))
    assert float((found[0, 0] - changed[0, 0]).abs().max()) > 1e-2
    assert torch.equal(found, logits(other, FIXED))


@pytest.mark.parametrize("use_ngpt", [1, 0])
def test_nvidias_model_is_causal_and_decodes_onto_a_cache(use_ngpt: int, tmp_path: Path) -> None:
    runner = ModelRunner(load_model(make_hot("ngpt-nvidia", tmp_path, use_nGPT=use_ngpt), torch.float64))
    ids = some_ids(40)
    full, cache, parts = runner.logits(ids), None, []
    for start, stop in ((0, 20), (20, 24), (24, 25), (25, 40)):
        output = runner.forward(input_ids=runner.batch(ids[start:stop]), past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        parts.append(output.logits[0])
    assert distance(torch.cat(parts), full) < 1e-14
    assert torch.allclose(full[:30], runner.logits(ids[:30]), rtol=0, atol=1e-12)


def test_nvidias_plain_norms_are_those_of_its_file(tmp_path: Path) -> None:
    model = load_model(make_hot("ngpt-nvidia", tmp_path, use_nGPT=0), torch.float64).model
    assert model.rmsnorm_f.eps == 1e-6 and model.sz is None
    assert not any("alpha" in name or "sqk" in name for name in model.state_dict())


def test_nobody_says_how_many_heads(ngpt: Any, tmp_path: Path) -> None:
    ngpt.write_tutorial(tmp_path / "model.pt")
    with pytest.raises(FolderError, match="say it with --n-head"):
        load_native(tmp_path / "model.pt", torch.float64, None)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "ngpt-tutorial", "n_head": 4}))
    found = logits(load_native(tmp_path / "model.pt", torch.float64, None), FIXED)
    (tmp_path / "config.json").unlink()
    with HEADS.said(4):
        assert torch.equal(found, logits(load_native(tmp_path / "model.pt", torch.float64, None), FIXED))


def test_files_and_folders_of_a_dialect_are_one_function(ngpt: Any, tmp_path: Path) -> None:
    """Wrapped keys too, and a bare state dict with NVIDIA's config beside it."""
    ngpt.write_nvidia(tmp_path / "a" / "ckpt.pt", prefix="_orig_mod.")
    found = logits(load_native(tmp_path / "a" / "ckpt.pt", torch.float64, None), FIXED)
    with ngpt.model_module():
        content = torch.load(tmp_path / "a" / "ckpt.pt", weights_only=False)
    config = json.dumps({"model_type": "ngpt-nvidia", **content["model_args"], "dtype": "float32"})
    for name in ("b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
    torch.save(content["model"], tmp_path / "b" / "model.pt")
    save_file(content["model"], tmp_path / "c" / "model.safetensors", {"format": "pt"})
    for place in (tmp_path / "b", tmp_path / "b" / "model.pt", tmp_path / "c"):
        assert torch.equal(logits(load_native(place, torch.float64, None), FIXED), found)


def test_a_state_dict_of_another_family_runs_by_the_config_beside_it(reference: Path, tmp_path: Path) -> None:
    source = tmp_path / "source" / "model.pt"
    source.parent.mkdir()
    torch.save(load_file(reference / "model.safetensors"), source)
    (source.parent / "config.json").write_bytes((reference / "config.json").read_bytes())
    ours = convert(source, "llama", output=tmp_path / "ours").output
    assert compare(ours, source).verdict == "PASS"
    short = {k: t for k, t in load_file(reference / "model.safetensors").items() if "layers.1.mlp.up" not in k}
    torch.save(short, source)
    with pytest.raises(FolderError, match=r"its keys are not those .* model\.layers\.1\.mlp\.up_proj\.weight"):
        load_native(source, torch.float32, None)


def test_stand_ins_of_a_pickle_keep_nothing() -> None:
    made = ngpt_nvidia.Unneeded(1, "two")
    made.__setstate__({"block_size": 4})
    assert vars(made) == {}


@pytest.mark.parametrize("where", ["beside", "inside of config"])
def test_no_reference_runs_code(where: str, ngpt: Any, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'owned'}",)

    config = ngpt.GPTConfig()
    config.dropout = Hostile()
    ngpt.write_nvidia(tmp_path / "ckpt.pt", content={"more": Hostile()} if where == "beside" else {"config": config})
    with pytest.raises(FolderError, match=r"cannot be unpickled safely: its pickle asks for posix\.system"):
        load_native(tmp_path / "ckpt.pt", torch.float64, None)
    assert not (tmp_path / "owned").exists()
