"""Every level of a verdict on an nGPT: whole models and streamed ones, golden files, kernels that a model excludes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from converters import convert
from converters.checkpoint.users_word import HEADS
from converters.conversion import Request
from golden import Status, case, compare, record
from golden.case import Case
from golden.errors import MissingDeviceError
from golden.evidence.golden_file import read_golden
from golden.evidence.live import open_reference
from golden.evidence.probes import make_probes, run_probe
from golden.evidence.prompts import reference_prompts
from golden.levels.kernels import judge_kernels
from golden.models.hot import make_hot
from golden.models.loading import load_model
from golden.models.modules import blocks, role_module
from golden.models.obstacles import obstacle
from golden.models.running import ModelRunner
from golden.models.streamed_loading import open_streamed

IDS = tuple(range(3, 60))
NO_HALF = "float16: not run: attn_fn 'masked_linear' has scores such as -1e8"


@pytest.fixture(scope="module", params=["ngpt-tutorial", "ngpt-nvidia"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """(family, hot model, the MixFormer that it became)."""
    return made(request.param, tmp_path_factory.mktemp("pair"))


def made(family: str, place: Path, **overrides: Any) -> tuple[str, Path, Path]:
    source = make_hot(family, place / "source", seed=4, **overrides)
    return family, source, convert(source, family, output=place / "ours").output


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The tutorial's: (hot model, MixFormer)."""
    return made("ngpt-tutorial", tmp_path_factory.mktemp("tutorial"))[1:]


def test_a_whole_verdict_is_pass(pair: tuple[str, Path, Path]) -> None:
    family, source, ours = pair
    verdict = compare(ours, source)
    assert verdict.verdict is Status.PASS
    assert [verdict.level(name).status for name in ("L0", "L1", "L2", "L3", "L4")] == [Status.PASS] * 5
    assert (verdict.level("L2").number or 0.0) < 1e-13
    without_cache = "no cache was compared: the model has none" in verdict.level("L4").detail
    assert without_cache == (NO_HALF in verdict.level("L3").detail) == (family == "ngpt-tutorial")


@pytest.mark.parametrize("use_ngpt", [1, 0])
def test_a_whole_verdict_on_nvidias_file_with_biases_is_pass(use_ngpt: int, ngpt: Any, tmp_path: Path) -> None:
    ngpt.write_nvidia(tmp_path / "native" / "ckpt.pt", bias=True, use_nGPT=use_ngpt, n_embd=40, n_head=4)
    ours = convert(tmp_path / "native" / "ckpt.pt", output=tmp_path / "ours").output
    assert compare(ours, tmp_path / "native").verdict is Status.PASS


def test_the_way_back_is_judged_with_the_mixformer_as_reference(pair: tuple[str, Path, Path], tmp_path: Path) -> None:
    family, _, ours = pair
    for native in (False, True):
        back = convert(ours, to=family, output=tmp_path / str(native), request=Request(native=native)).output
        with HEADS.said(4):
            verdict = compare(back, ours)
        assert verdict.verdict is Status.PASS
        assert [verdict.level(name).status for name in ("L0", "L1", "L2")] == [Status.PASS] * 3


def test_who_told_the_number_of_heads_is_no_difference(ngpt: Any, tmp_path: Path) -> None:
    (tmp_path / "native").mkdir()
    ngpt.write_tutorial(tmp_path / "native" / "model.pt")
    with HEADS.said(4):
        ours = convert(tmp_path / "native", output=tmp_path / "ours").output
    folder = convert(ours, to="ngpt-tutorial", output=tmp_path / "folder").output
    assert compare(ours, folder, levels=["L0", "L1", "L2"]).verdict is Status.PASS
    assert compare(folder, ours, levels=["L0", "L1", "L2"]).verdict is Status.PASS
    with HEADS.said(6):
        assert compare(folder, tmp_path / "native" / "model.pt", levels=["L0"]).verdict is Status.FAIL


def test_a_wrong_way_back_fails(pair: tuple[str, Path, Path], tmp_path: Path) -> None:
    family, _, ours = pair
    back = convert(ours, to=family, output=tmp_path / "back").output
    weights = load_file(back / "model.safetensors")
    key = next(key for key in weights if key.endswith(("1.lr_mlp", "1.mlp_alpha")))
    save_file({**weights, key: weights[key] * 1.01}, back / "model.safetensors", {"format": "pt"})
    assert compare(back, ours, levels=["L2"]).verdict is Status.FAIL


def test_kernels_lose_no_more_than_the_reference(pair: tuple[str, Path, Path]) -> None:
    _, source, ours = pair
    for attn in ("eager", "sdpa"):
        level = compare(ours, source, levels=["L3"], attn=attn).level("L3")
        assert level.status is Status.PASS
        assert level.measures["attention"] == attn and "bfloat16 attention alone" in level.measures


def test_a_probe_is_true_for_scales_that_stay_float32(pair: tuple[str, Path, Path]) -> None:
    """Its true output has rounded matrices, as a model in half precision has them, and scales as they are."""
    _, source, _ = pair
    exact, own = (ModelRunner(load_model(source, dtype)) for dtype in (torch.float64, torch.bfloat16))
    (probe,) = [probe for probe in make_probes(exact, own, torch.bfloat16) if probe.role == "attention"]
    attention = role_module(blocks(exact.model)[0], "attention")
    assert attention is not None
    outputs = []
    for matrices in (True, False):
        for parameter in attention.parameters():
            if (parameter.ndim > 1) is matrices:
                parameter.data = parameter.data.bfloat16().double()
        outputs.append(run_probe(exact, "attention", probe.given.double()))
    right, wrong = (output.float() for output in outputs if output is not None)
    assert torch.equal(right, probe.truth)
    assert not torch.allclose(wrong, probe.truth, rtol=1e-6)


def test_float16_alone_is_not_run_and_gives_the_reason(tutorial: tuple[Path, Path]) -> None:
    source, ours = tutorial
    verdict = compare(ours, source, levels=["L3"], dtype="float16")
    level = verdict.level("L3")
    assert level.status is Status.NOT_RUN and NO_HALF in level.detail
    assert verdict.verdict is Status.UNVERIFIED  # nothing was judged


def test_flash_attention_is_refused_with_the_reason(tutorial: tuple[Path, Path]) -> None:
    source, ours = tutorial
    with pytest.raises(MissingDeviceError, match="has no softmax, which is part of flash-attn's kernels"):
        compare(ours, source, attn="flash")
    evidence = open_reference(source, lambda r, used: reference_prompts(source, r.model.config, used), torch.float64)
    level = judge_kernels(ours, evidence, ["bfloat16", "float16"], "flash_attention_2")
    assert level.status is Status.NOT_RUN and level.detail.count("has no softmax") == 2


@pytest.mark.parametrize(
    ("family", "dtype", "attn", "excluded"),
    [
        ("ngpt-tutorial", torch.float16, "eager", True),
        ("ngpt-tutorial", torch.bfloat16, "sdpa", False),
        ("ngpt-tutorial", torch.bfloat16, "flash_attention_2", True),
        ("ngpt-nvidia", torch.float16, "eager", False),
        ("ngpt-nvidia", torch.float16, "flash_attention_2", False),
    ],
)
def test_what_is_excluded_is_known_from_the_config(
    family: str, dtype: torch.dtype, attn: str, excluded: bool, tmp_path: Path
) -> None:
    _, source, ours = made(family, tmp_path)
    config = json.loads((ours / "config.json").read_text())
    assert (obstacle(config, dtype, attn) is not None) == excluded
    theirs = json.loads((source / "config.json").read_text())
    assert (obstacle(theirs, dtype, "eager") is not None) == (family == "ngpt-tutorial" and dtype is torch.float16)
    assert obstacle({**config, "architecture": 7}, dtype, attn) is None


def test_a_golden_file_stands_for_the_reference(pair: tuple[str, Path, Path], tmp_path: Path) -> None:
    family, source, ours = pair
    written = record(source, tmp_path / "reference.golden")
    dtypes = {"bfloat16"} if family == "ngpt-tutorial" else {"bfloat16", "float16"}
    assert set(read_golden(written).header["calibrations"]) == dtypes
    verdict = compare(ours, golden=written)
    assert verdict.verdict is Status.PASS
    assert (NO_HALF in verdict.level("L3").detail) == (family == "ngpt-tutorial")


def test_a_golden_file_is_recorded_from_a_native_file(ngpt: Any, tmp_path: Path) -> None:
    (tmp_path / "native").mkdir()
    native = tmp_path / "native" / "model.pt"
    ngpt.write_tutorial(native)
    with HEADS.said(4):
        written = record(native, tmp_path / "reference.golden")
        ours = convert(native, output=tmp_path / "ours").output
        assert compare(ours, native, golden=written, levels=["L1", "L2"]).verdict is Status.PASS
    assert compare(ours, golden=written).verdict is Status.PASS
    assert list(read_golden(written).header["hashes"]) == ["model.pt"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_a_streamed_model_is_the_whole_one(pair: tuple[str, Path, Path], dtype: torch.dtype) -> None:
    """Scales keep float32 in both, and a scale without effect is among the weights of both."""
    _, _, ours = pair
    whole, streamed = load_model(ours, dtype), open_streamed(ours, dtype)
    expected, found = dict(whole.weights()), dict(streamed.weights())
    assert found.keys() == expected.keys()
    assert all(found[key].dtype is tensor.dtype and torch.equal(found[key], tensor) for key, tensor in expected.items())
    if dtype is torch.bfloat16:
        assert {tensor.dtype for key, tensor in found.items() if "scale" in key or "alpha" in key} == {torch.float32}
    assert torch.equal(ModelRunner(streamed).logits(IDS), ModelRunner(whole).logits(IDS))


def test_a_number_that_is_not_finite_is_named_wherever_it_is(tutorial: tuple[Path, Path], tmp_path: Path) -> None:
    weights = load_file(tutorial[1] / "model.safetensors")
    weights["layers.2.mlp.uv_scale.weight"][7] = float("nan")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_bytes((tutorial[1] / "config.json").read_bytes())
    for opener in (load_model, open_streamed):
        assert "layers.2.mlp.uv_scale.weight: 1 of 384" in str(opener(tmp_path, torch.float64).name_nonfinite())


def test_without_memory_the_verdict_is_reached_layer_by_layer(
    pair: tuple[str, Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, source, ours = pair
    golden = record(source, tmp_path / "reference.golden", dtypes=[])
    monkeypatch.setattr(case, "available_bytes", lambda: 0)
    need = Case(ours, None, golden, read_golden(golden), frozenset(), dtype="float64").plan().need
    monkeypatch.setattr(case, "available_bytes", lambda: need)
    level = compare(ours, golden=golden, levels=["L2"], dtype="float64").level("L2")
    assert level.status is Status.PASS and "run layer by layer" in level.detail
    assert level.number is not None and level.number < 1e-13
