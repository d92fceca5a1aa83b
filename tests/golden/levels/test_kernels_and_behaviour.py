"""L3 compares kernels with the reference's own error, L4 compares what users do with a model."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from golden import Status, compare
from golden.evidence.calibration import Floor
from golden.evidence.live import LiveEvidence, open_reference
from golden.evidence.probes import make_probes, run_probe
from golden.evidence.prompts import reference_prompts
from golden.levels.behaviour import judge_behaviour
from golden.levels.function import FLOAT64
from golden.levels.kernels import excesses
from golden.models.loading import load_model
from golden.models.running import ModelRunner


@pytest.fixture(scope="module")
def evidence(reference: Path) -> Iterator[LiveEvidence]:
    yield open_reference(reference, lambda r, used: reference_prompts(reference, r.model.config, used), torch.float64)


@pytest.fixture
def candidate(mixformer: Path) -> ModelRunner:
    return ModelRunner(load_model(mixformer, torch.float64))


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sound_kernels_lose_no_more_than_the_reference(dtype: str, attn: str, mixformer: Path, reference: Path) -> None:
    level = compare(mixformer, reference, levels=["L3"], dtype=dtype, attn=attn).level("L3")
    assert level.status is Status.PASS
    assert level.measures["attention"] == attn
    assert f"{dtype} attention alone" in level.measures


def test_weights_rounded_to_bfloat16_show_in_float16(mixformer: Path, reference: Path, tmp_path: Path) -> None:
    from golden.faults.model_copy import admit, discharge

    patient = admit(mixformer)
    patient.weights = {key: tensor.bfloat16().float() for key, tensor in patient.weights.items()}
    rounded = discharge(patient, mixformer, tmp_path)
    statuses = [compare(rounded, reference, levels=["L3"], dtype=d).level("L3").status for d in ("bfloat16", "float16")]
    assert statuses == [Status.PASS, Status.FAIL]


@pytest.mark.parametrize(
    ("ratios", "kl", "named"),
    [
        ({"rms": 1.5, "max": 3.0, "kl": 1.0}, 2e-3, []),
        ({"rms": 1.6, "max": 1.0, "kl": 1.0}, 1e-3, ["rms error"]),
        ({"rms": 1.0, "max": 3.1, "kl": 1.0}, 1e-3, ["max error"]),
        ({"rms": 1.0, "max": 1.0, "kl": 9.0}, 9e-5, []),
        ({"rms": 1.0, "max": 1.0, "kl": 3.0}, 3e-3, ["KL"]),
        ({"rms": 1.0, "max": 1.0, "kl": 1.0, "attention alone": 1.6}, 1e-3, ["attention alone"]),
        ({"rms": float("nan"), "max": 1.0, "kl": 1.0}, float("nan"), ["rms error", "KL"]),
    ],
)
def test_each_budget_of_l3_is_kept_and_nan_is_no_pass(ratios: dict[str, float], kl: float, named: list[str]) -> None:
    found = list(excesses(ratios, Floor(0.1, 0.1, kl), Floor(0.1, 0.1, 1e-3)))
    assert [any(text.startswith(name) for text in found) for name in named] == [True] * len(named)
    assert len(found) == len(named)


def test_a_probe_sees_an_eps_that_no_logit_shows(evidence: LiveEvidence, mixformer: Path, reference: Path) -> None:
    own = ModelRunner(load_model(reference, torch.bfloat16, "eager"))
    probe = make_probes(evidence.runner, own, torch.bfloat16)[2]
    wrong = ModelRunner(load_model(mixformer, torch.bfloat16))
    sound = run_probe(wrong, probe.role, probe.given)
    for block in wrong.model.layers[1:-1]:
        block.ln_1.eps = 1e-6
    faulty = run_probe(wrong, probe.role, probe.given)
    assert sound is not None and faulty is not None
    errors = [float((x.double() - probe.truth).square().mean().sqrt()) for x in (sound, faulty)]
    assert errors[0] <= 1.5 * probe.own < 50 * probe.own < errors[1]


def test_kernels_are_not_run_on_a_cpu_for_a_large_model(
    mixformer: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("golden.case.CPU_LIMIT", 1000)
    level = compare(mixformer, reference, levels=["L3"]).level("L3")
    assert (level.status, level.required) == (Status.NOT_RUN, False)


def test_a_healthy_candidate_behaves(candidate: ModelRunner, evidence: LiveEvidence) -> None:
    level = judge_behaviour(candidate, evidence, FLOAT64)
    assert level.status is Status.PASS
    assert level.measures == {"checks": 4.0, "greedy_tokens": 16.0}


def failing(candidate: ModelRunner, evidence: LiveEvidence, monkeypatch: pytest.MonkeyPatch, change: Any) -> str:
    honest = candidate.model.forward

    @functools.wraps(honest)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return change(honest, kwargs)

    monkeypatch.setattr(candidate.model, "forward", forward)
    level = judge_behaviour(candidate, evidence, FLOAT64)
    assert level.status is Status.FAIL
    return level.detail


def test_a_model_that_ignores_padding_is_caught(
    candidate: ModelRunner, evidence: LiveEvidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    detail = failing(candidate, evidence, monkeypatch, lambda f, kw: f(**(kw | {"attention_mask": None})))
    assert "padding on the left" in detail


def test_a_model_that_starts_its_positions_anew_on_a_cache_is_caught(
    candidate: ModelRunner, evidence: LiveEvidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(forward: Any, kwargs: dict[str, Any]) -> Any:
        if kwargs.get("past_key_values") is not None and kwargs.get("attention_mask") is None:
            kwargs["position_ids"] = torch.arange(kwargs["input_ids"].shape[1])[None]
        return forward(**kwargs)

    assert "decoding on a cache" in failing(candidate, evidence, monkeypatch, change)


def test_a_model_that_is_not_repeatable_is_caught(
    candidate: ModelRunner, evidence: LiveEvidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(forward: Any, kwargs: dict[str, Any]) -> Any:
        output = forward(**kwargs)
        output.logits = output.logits + 1e-12 * torch.rand(())
        return output

    assert "two runs: their logits differ by" in failing(candidate, evidence, monkeypatch, change)


def test_another_text_is_caught_with_the_step_and_both_tokens(
    candidate: ModelRunner, evidence: LiveEvidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(forward: Any, kwargs: dict[str, Any]) -> Any:
        output = forward(**kwargs)
        output.logits = -output.logits
        return output

    assert "greedy text: token 1 is" in failing(candidate, evidence, monkeypatch, change)


def test_an_end_of_text_token_or_a_penalty_of_the_folder_does_not_change_greedy_text(
    candidate: ModelRunner, evidence: LiveEvidence
) -> None:
    candidate.model.generation_config.eos_token_id = evidence.continuation().ids[3]
    candidate.model.generation_config.repetition_penalty = 5.0
    assert judge_behaviour(candidate, evidence, FLOAT64).status is Status.PASS
    assert candidate.model.generation_config.repetition_penalty == 5.0


def test_length_dependent_rope_is_compared_by_full_passes_only(tmp_path: Path) -> None:
    from golden.models.hot import make_hot

    parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    source = make_hot("llama", tmp_path, rope_parameters=parameters, max_position_embeddings=24)
    level = compare(source, source, levels=["L2", "L4"]).level("L4")
    assert level.status is Status.PASS
    assert level.measures["checks"] == 2.0
    assert "rope depends on the length" in level.detail


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["gpt2", "phi"])
def test_a_gelu_kernel_of_the_other_form_is_caught_though_the_reference_rounds_coarser(
    family: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from golden.levels import kernels
    from golden.models.hot import make_hot
    from golden.models.modules import activation, blocks

    source = make_hot(family, tmp_path)
    assert compare(source, source, levels=["L3"], dtype=dtype).verdict is Status.PASS

    def with_the_other_form(*args: Any) -> Any:
        loaded = load_model(*args)
        act: Any = activation(blocks(loaded.model)[0])
        act.forward = torch.nn.functional.gelu
        return loaded

    monkeypatch.setattr(kernels, "load_model", with_the_other_form)
    level = compare(source, source, levels=["L3"], dtype=dtype).level("L3")
    assert level.status is Status.FAIL and "x its error against the other GELU" in level.detail


def test_a_dtype_in_which_the_reference_overflows_is_no_ruler(tmp_path: Path) -> None:
    from golden.faults.model_copy import admit, discharge
    from golden.models.hot import make_hot

    patient = admit(make_hot("llama", tmp_path / "source"))
    for role in ("1.up", "1.gate"):
        patient.part(role).mul_(2000.0)
    wild = discharge(patient, tmp_path / "source", tmp_path / "wild")
    level = compare(wild, wild, levels=["L3"]).level("L3")
    assert level.status is Status.PASS
    assert "float16: the reference itself is not finite" in level.detail
    assert {key.split()[0] for key in level.measures} == {"attention", "bfloat16"}
    assert compare(wild, wild, levels=["L3"], dtype="float16").verdict is Status.UNVERIFIED


def test_a_candidate_that_cannot_run_in_low_precision_fails_with_its_words(
    mixformer: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from golden.levels import kernels

    def broken(*_: Any) -> Any:
        raise RuntimeError("expected mat1 and mat2 to have the same dtype")

    monkeypatch.setattr(kernels, "measure_floor", broken)
    level = compare(mixformer, reference, levels=["L3"], dtype="bfloat16").level("L3")
    assert level.status is Status.FAIL and "cannot run: RuntimeError: expected mat1" in level.detail
