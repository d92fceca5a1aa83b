"""L2 judges the function alone: silent on the healthy, loud on every fault, and it names what it can name."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from golden import Status, Verdict, compare
from golden.evidence.live import open_reference
from golden.evidence.prompts import reference_prompts
from golden.faults.catalogue import catalogue
from golden.faults.model_copy import Patient, admit, discharge
from golden.faults.self_testing import judge_alone
from golden.models.loading import load_model, silenced


def judge(candidate: Path, reference: Path, **options: str) -> Verdict:
    return compare(candidate, reference, levels=["L2"], **options)


def test_a_copy_re_saved_by_transformers_passes_far_below_the_budget(reference: Path, tmp_path: Path) -> None:
    model = load_model(reference, torch.float32).model
    with silenced():
        model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    level = judge(tmp_path, reference).level("L2")
    assert level.status is Status.PASS
    assert level.number is not None and level.number < 1e-13
    assert level.budget == 1e-10


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
def test_every_attention_backend_of_the_healthy_candidate_passes(reference: Path, attn: str) -> None:
    assert judge(reference, reference, attn=attn).verdict is Status.PASS


@pytest.mark.parametrize("source", ["reference", "tied_reference"])
def test_every_planted_fault_fails_without_mapping_hash_or_conversion_record(
    source: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(source)
    evidence = open_reference(folder, lambda r, used: reference_prompts(folder, r.model.config, used), torch.float64)
    patient = admit(folder)
    faults = catalogue(patient)
    readings = {}
    for fault in faults:
        sick = patient.clone()
        fault.plant(sick, random.Random(3))
        readings[fault.name] = judge_alone(discharge(sick, folder, tmp_path), evidence)
    assert len(faults) >= 40
    assert [name for name, level in readings.items() if level.status is not Status.FAIL] == []
    assert min(level.number or 0.0 for level in readings.values()) > 1e-6
    assert judge_alone(discharge(patient, folder, tmp_path), evidence).status is Status.PASS


def test_each_prompt_reports_the_quarters_of_its_positions(reference: Path) -> None:
    readings = judge(reference, reference).level("L2").readings
    random_prompt = next(reading for reading in readings if reading.name == "random")
    assert random_prompt.tokens >= 96
    assert len(random_prompt.quartiles) == 4


def test_a_missing_tensor_fails_by_its_key(patient: Patient, reference: Path, tmp_path: Path) -> None:
    del patient.weights["model.layers.1.mlp.up_proj.weight"]
    level = judge(discharge(patient, reference, tmp_path), reference).level("L2")
    assert level.status is Status.FAIL
    assert "model.layers.1.mlp.up_proj.weight: the model needs it" in level.detail


def test_an_unknown_tensor_fails_by_its_key(patient: Patient, reference: Path, tmp_path: Path) -> None:
    patient.weights["model.layers.1.mlp.extra.weight"] = torch.ones(3)
    level = judge(discharge(patient, reference, tmp_path), reference).level("L2")
    assert level.status is Status.FAIL
    assert "model.layers.1.mlp.extra.weight: the files have it" in level.detail


def test_a_misshapen_tensor_fails_by_its_key_and_both_shapes(patient: Patient, reference: Path, tmp_path: Path) -> None:
    patient.weights["model.norm.weight"] = torch.ones(47)
    level = judge(discharge(patient, reference, tmp_path), reference).level("L2")
    assert level.status is Status.FAIL
    assert "model.norm.weight: the files have shape (47,), the model expects (48,)" in level.detail


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_fails_by_its_key(
    value: float, patient: Patient, reference: Path, tmp_path: Path
) -> None:
    patient.weights["model.layers.2.self_attn.v_proj.weight"][3, 5] = value
    verdict = judge(discharge(patient, reference, tmp_path), reference)
    assert verdict.verdict is Status.FAIL
    assert "model.layers.2.self_attn.v_proj.weight: 1 of" in verdict.level("L2").detail
    assert verdict.to_json()["levels"][2]["number"] is None


def test_a_rare_embedding_row_outside_all_prompts_is_found(tmp_path: Path) -> None:
    from golden.models.hot import make_hot

    source = make_hot("llama", tmp_path / "wide", vocab_size=2003)
    patient = admit(source)
    patient.part("embed")[1000] *= -1
    level = judge(discharge(patient, source, tmp_path / "candidate"), source).level("L2")
    assert level.status is Status.FAIL
    assert "token embeddings, all 2003 rows" in level.detail


def test_an_untied_head_that_equals_the_embedding_is_the_same_function(tied_reference: Path, tmp_path: Path) -> None:
    patient = admit(tied_reference)
    patient.turn("tie", False)
    patient.weights["lm_head.weight"] = patient.part("embed").clone()
    assert judge(discharge(patient, tied_reference, tmp_path), tied_reference).verdict is Status.PASS


def test_rows_of_a_padded_vocabulary_are_left_out_and_said_so(
    patient: Patient, reference: Path, tmp_path: Path
) -> None:
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        patient.weights[key] = torch.nn.functional.pad(patient.weights[key], (0, 0, 0, 21))
    patient.config["vocab_size"] += 21
    padded = discharge(patient, reference, tmp_path)
    for candidate, source in ((padded, reference), (reference, padded)):
        level = judge(candidate, source).level("L2")
        assert level.status is Status.PASS
        assert "the first 331 were compared" in level.detail


def test_a_vocabulary_that_lost_rows_fails(patient: Patient, reference: Path, tmp_path: Path) -> None:
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        patient.weights[key] = patient.weights[key][:-1]
    patient.config["vocab_size"] -= 1
    level = judge(discharge(patient, reference, tmp_path), reference).level("L2")
    assert level.status is Status.FAIL
    assert "rows are missing" in level.detail


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_are_judged_as_stored(dtype: torch.dtype, reference: Path, tmp_path: Path) -> None:
    patient = admit(reference)
    patient.weights = {key: tensor.to(dtype) for key, tensor in patient.weights.items()}
    patient.config["dtype"] = str(dtype).removeprefix("torch.")
    narrow = discharge(patient, reference, tmp_path / "narrow")
    assert judge(narrow, narrow).verdict is Status.PASS
    assert judge(narrow, reference).verdict is Status.FAIL


def test_nothing_is_printed_to_standard_output(reference: Path, capfd: pytest.CaptureFixture[str]) -> None:
    judge(reference, reference)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("family", ["gpt2", "codegen", "phi", "phi3", "mistral", "qwen2", "qwen3"])
def test_every_transformers_family_can_be_its_own_reference(family: str, tmp_path: Path) -> None:
    from golden.models.hot import make_hot

    source = make_hot(family, tmp_path / family)
    verdict = compare(source, source, levels=["L2", "L3", "L4"])
    assert {level.name: level.status for level in verdict.levels if level.required} == {
        "L2": Status.PASS,
        "L3": Status.PASS,
        "L4": Status.PASS,
    }
