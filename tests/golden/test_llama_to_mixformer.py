"""A LLaMA and the MixFormer that equals it, judged in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from golden import Status, compare
from golden.evidence.prompts import reference_prompts
from golden.evidence.stages import diagnosis_prompt
from golden.faults.model_copy import admit, discharge
from golden.models.hot import make_hot
from golden.models.loading import load_model
from golden.models.running import ModelRunner


def test_a_mixformer_built_by_hand_passes_every_level_that_runs(mixformer: Path, reference: Path) -> None:
    verdict = compare(mixformer, reference)
    assert verdict.verdict is Status.PASS
    assert {level.name: level.status for level in verdict.levels} == {
        "L0": Status.PASS,
        "L1": Status.PASS,
        "L2": Status.PASS,
        "L3": Status.PASS,
        "L3 flash": Status.NOT_RUN,
        "L4": Status.PASS,
    }
    assert (verdict.level("L2").number or 1.0) < 1e-13


def test_the_way_back_is_judged_with_the_mixformer_as_reference(mixformer: Path, reference: Path) -> None:
    assert compare(reference, mixformer).verdict is Status.PASS


@pytest.mark.parametrize(("one", "other"), [("gate", "up"), ("k", "v"), ("norm_1", "norm_2")])
def test_a_swap_in_the_mapping_fails_and_is_named(
    one: str, other: str, mixformer: Path, reference: Path, tmp_path: Path
) -> None:
    patient = admit(mixformer)
    for i in range(patient.anatomy.n_layer):
        patient.swap(f"{i}.{one}", f"{i}.{other}")
    verdict = compare(discharge(patient, mixformer, tmp_path), reference, levels=["L2"])
    assert verdict.verdict is Status.FAIL
    claim = f"{one} and {other} are exchanged in all layers: applying the swap makes it pass"
    assert verdict.hypothesis is not None and verdict.hypothesis.startswith(claim)


@pytest.mark.parametrize(
    ("dial", "wrong", "stage"),
    [
        ("eps", 1e-6, "layer 0, norm 1"),
        ("theta", 10400.0, "layer 0, attention"),
        ("activation", "gelu", "layer 0, mlp"),
    ],
)
def test_a_wrong_config_fails_in_l0_and_l2_and_place_and_cause_are_named(
    dial: str, wrong: object, stage: str, mixformer: Path, reference: Path, tmp_path: Path
) -> None:
    patient = admit(mixformer)
    right = patient.read(dial)
    patient.turn(dial, wrong)
    verdict = compare(discharge(patient, mixformer, tmp_path), reference, levels=["L0", "L1", "L2"])
    assert [verdict.level(name).status for name in ("L0", "L1", "L2")] == [Status.FAIL, Status.PASS, Status.FAIL]
    assert verdict.first_divergence is not None and verdict.first_divergence.startswith(stage)
    assert verdict.hypothesis is not None and verdict.hypothesis.startswith(f"{dial} is {wrong} and should be {right}")


def test_the_value_that_the_reference_has_is_proposed_before_the_usual_ones(mixformer: Path, tmp_path: Path) -> None:
    odd = 9.999999747378752e-06
    reference = make_hot("llama", tmp_path / "odd", seed=7, rms_norm_eps=odd)
    patient = admit(mixformer)
    patient.turn("eps", 1e-6)
    verdict = compare(discharge(patient, mixformer, tmp_path / "wrong"), reference, levels=["L2"])
    assert verdict.hypothesis is not None and verdict.hypothesis.startswith(f"eps is 1e-06 and should be {odd}")


def test_a_flipped_sign_fails_in_l1_by_its_key_and_in_l2_by_its_place(
    mixformer: Path, reference: Path, tmp_path: Path
) -> None:
    patient = admit(mixformer)
    patient.part("2.down")[7, 11] *= -1
    verdict = compare(discharge(patient, mixformer, tmp_path), reference, levels=["L0", "L1", "L2"])
    assert [verdict.level(name).status for name in ("L0", "L1", "L2")] == [Status.PASS, Status.FAIL, Status.FAIL]
    assert "layers.3.mlp.fc2.weight at element" in verdict.level("L1").detail
    assert verdict.first_divergence is not None and verdict.first_divergence.startswith("layer 2, mlp")
    assert str(verdict.hypothesis).startswith("layer 2: one value of down (row 7, column 11) is negated: applying")


def test_a_fault_that_the_diagnosis_prompt_does_not_show_is_placed_by_its_table_and_explained_by_the_weights(
    mixformer: Path, reference: Path, tmp_path: Path
) -> None:
    patient = admit(mixformer)
    runner = ModelRunner(load_model(reference, torch.float64))
    prompts = reference_prompts(reference, runner.model.config, runner.vocab)
    shown = set(prompts[diagnosis_prompt(prompts)].ids)
    hidden = next(token for token in range(runner.vocab) if token not in shown)
    patient.part("embed")[hidden, 3] *= -1
    verdict = compare(discharge(patient, mixformer, tmp_path), reference, levels=["L2"])
    assert verdict.verdict is Status.FAIL
    assert verdict.first_divergence is not None and "embeddings" in verdict.first_divergence
    assert str(verdict.hypothesis).startswith(f"one value of embed (row {hidden}, column 3) is negated: applying")


def test_a_wrong_tie_fails_at_the_logits_and_is_named(mixformer: Path, reference: Path, tmp_path: Path) -> None:
    patient = admit(mixformer)
    patient.turn("tie", True)
    del patient.weights["layers.4.linear.weight"]
    verdict = compare(discharge(patient, mixformer, tmp_path), reference, levels=["L2"])
    assert verdict.verdict is Status.FAIL
    assert str(verdict.first_divergence).startswith("logits")
    assert str(verdict.hypothesis).startswith("tie is True and should be False: applying tie False")
