"""L3 with flash-attn: over stand-in kernels on the CPU and, marked gpu, over real ones; kernel faults must fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from golden import Status, compare, record
from golden.errors import MissingDeviceError
from golden.faults.model_copy import admit, discharge
from golden.models.hot import make_hot

Kernel = Callable[..., Tensor]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """The CPU with stand-in kernels, or a GPU with real ones."""
    if request.param == "cpu":
        request.getfixturevalue("flash_package")
    elif not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    else:
        pytest.importorskip("flash_attn", reason="needs flash-attn", exc_type=ImportError)
    return str(request.param)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("form", ["grouped heads", "window"])
def test_a_sound_candidate_passes_l3_with_flash(
    form: str, dtype: str, device: str, mixformer: Path, reference: Path, windowed: tuple[Path, Path]
) -> None:
    source, candidate = (reference, mixformer) if form == "grouped heads" else windowed
    verdict = compare(candidate, source, levels=["L3"], attn="flash", dtype=dtype, device=device)
    level = verdict.level("L3 flash")
    assert level.status is Status.PASS and verdict.verdict is Status.PASS
    assert level.measures["attention"] == "flash_attention_2"
    assert verdict.level("L3").measures["attention"] == "sdpa"
    assert level.number is not None and level.number <= 1.5
    assert {f"{dtype} attention alone", f"{dtype} decoding on a cache"} <= set(level.measures)


@pytest.mark.usefixtures("flash_package")
def test_it_is_flash_that_runs(
    mixformer: Path, reference: Path, standin: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int, torch.dtype]] = []
    honest = standin.attend

    def spy(q: Tensor, k: Tensor, *rest: Any, **rule: Any) -> Tensor:
        calls.append((len(q), len(k), q.dtype))
        return honest(q, k, *rest, **rule)

    monkeypatch.setattr(standin, "attend", spy)
    compare(mixformer, reference, levels=["L3"], attn="sdpa")
    assert calls == []
    compare(mixformer, reference, levels=["L3"], attn="flash")
    assert {dtype for _, _, dtype in calls} == {torch.bfloat16, torch.float16}
    assert any(1 < queries < keys for queries, keys, _ in calls), "no chunk behind a longer row of keys"
    assert any(queries == 1 for queries, _, _ in calls), "no single query"


def scaled(q: Tensor, k: Tensor, v: Tensor, slopes: Any, scale: float, kernel: Kernel, **rule: Any) -> Tensor:
    return kernel(q, k, v, slopes, 1.02 * scale, **rule)


def wider(q: Tensor, k: Tensor, v: Tensor, slopes: Any, scale: float, kernel: Kernel, **rule: Any) -> Tensor:
    return kernel(q, k, v, slopes, scale, **rule | {"left": rule["left"] + 1 if rule["left"] >= 0 else -1})


def narrower(q: Tensor, k: Tensor, v: Tensor, slopes: Any, scale: float, kernel: Kernel, **rule: Any) -> Tensor:
    return kernel(q, k, v, slopes, scale, **rule | {"left": rule["left"] - 1 if rule["left"] >= 0 else -1})


def top_left(q: Tensor, k: Tensor, v: Tensor, slopes: Any, scale: float, kernel: Kernel, **rule: Any) -> Tensor:
    """Query i sees keys 0 to i, however many keys lie before the first query."""
    return kernel(q, k[: len(q)], v[: len(q)], slopes, scale, **rule)


def not_causal(q: Tensor, k: Tensor, v: Tensor, slopes: Any, scale: float, kernel: Kernel, **rule: Any) -> Tensor:
    return kernel(q, k, v, slopes, scale, **rule | {"causal": False, "right": -1})


def heads_tiled(q: Tensor, k: Tensor, v: Tensor, slopes: Any, scale: float, kernel: Kernel, **rule: Any) -> Tensor:
    """Query head h reads key-value head h mod K."""
    groups = q.shape[1] // k.shape[1]
    return kernel(q, k.repeat(1, groups, 1), v.repeat(1, groups, 1), slopes, scale, **rule)


@pytest.mark.parametrize(
    ("fault", "form", "named"),
    [
        (scaled, "grouped heads", "attention alone"),
        (wider, "window", "rms error of the logits"),
        (narrower, "window", "rms error of the logits"),
        (top_left, "grouped heads", "decoding on a cache"),
        (top_left, "window", "decoding on a cache"),
        (not_causal, "grouped heads", "rms error of the logits"),
        (heads_tiled, "grouped heads", "rms error of the logits"),
    ],
)
@pytest.mark.usefixtures("flash_package")
def test_a_fault_in_the_flash_kernel_fails_l3_with_flash_and_nothing_else(
    fault: Kernel,
    form: str,
    named: str,
    mixformer: Path,
    reference: Path,
    windowed: tuple[Path, Path],
    standin: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, candidate = (reference, mixformer) if form == "grouped heads" else windowed
    honest = standin.attend
    monkeypatch.setattr(standin, "attend", lambda *args, **rule: fault(*args, kernel=honest, **rule))
    verdict = compare(candidate, source, levels=["L3"], attn="flash")
    assert verdict.verdict is Status.FAIL
    assert verdict.level("L3").status is Status.PASS
    level = verdict.level("L3 flash")
    assert level.status is Status.FAIL
    assert named in level.detail
    assert level.measures["attention"] == "flash_attention_2"


def test_a_golden_alone_judges_flash_too(device: str, mixformer: Path, reference: Path, tmp_path: Path) -> None:
    golden = record(reference, tmp_path / "golden")
    verdict = compare(mixformer, golden=golden, levels=["L3"], attn="flash", device=device)
    assert verdict.level("L3 flash").status is Status.PASS


@pytest.mark.usefixtures("flash_package")
def test_a_golden_without_calibrations_is_no_pass_for_flash(mixformer: Path, reference: Path, tmp_path: Path) -> None:
    golden = record(reference, tmp_path / "golden", dtypes=())
    verdict = compare(mixformer, golden=golden, levels=["L3"], attn="flash")
    assert verdict.verdict is Status.UNVERIFIED
    assert "does not hold the reference's own error" in verdict.level("L3 flash").detail


@pytest.mark.usefixtures("flash_package")
def test_a_model_that_forbids_flash_is_no_verdict(mixformer: Path, reference: Path, tmp_path: Path) -> None:
    patient = admit(mixformer)
    patient.config["architecture"]["mixer"]["flash_attn"] = False
    with pytest.raises(MissingDeviceError, match=r"flash_attn.* is false"):
        compare(discharge(patient, mixformer, tmp_path), reference, levels=["L3"], attn="flash")


def test_without_a_gpu_flash_is_refused_before_any_model_is_loaded(
    mixformer: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("golden.session.reference_evidence", pytest.fail)
    with pytest.raises(MissingDeviceError, match="run on cuda, not on cpu") as caught:
        compare(mixformer, reference, attn="flash")
    assert caught.value.exit_code == 5


def test_without_its_package_flash_is_refused_by_name(
    mixformer: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixformer.attention.FLASH_DEVICES", ("cpu",))
    monkeypatch.setitem(__import__("sys").modules, "flash_attn", None)
    with pytest.raises(MissingDeviceError, match="flash_attn cannot be imported"):
        compare(mixformer, reference, attn="flash")


@pytest.mark.usefixtures("flash_package")
def test_a_converted_llama_passes_every_level_with_flash(tmp_path: Path) -> None:
    from converters import convert

    source = make_hot("llama", tmp_path / "source", seed=3)
    ours = convert(source, output=tmp_path / "ours").output
    verdict = compare(ours, source, attn="flash")
    assert verdict.verdict is Status.PASS
    assert {level.name: str(level.status) for level in verdict.levels} == dict.fromkeys(
        ("L0", "L1", "L2", "L3", "L3 flash", "L4"), "PASS"
    )
    assert json.dumps(verdict.to_json())
