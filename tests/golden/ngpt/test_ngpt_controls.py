"""What L2 must fail of an nGPT, and what no function shows: then L1 fails alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from converters import convert
from golden import Status, compare
from golden.evidence.live import Evidence, open_reference
from golden.evidence.prompts import reference_prompts
from golden.faults.catalogue import catalogue
from golden.faults.code_faults import code_faults
from golden.faults.model_copy import Patient, admit, discharge
from golden.faults.self_testing import judge_alone
from golden.levels.function import FLOAT64, judge_function
from golden.models.hot import make_hot
from golden.models.loading import load_model
from golden.models.running import ModelRunner

KINDS = {
    "tutorial": ("ngpt-tutorial", {}),
    "nvidia": ("ngpt-nvidia", {}),
    "nvidia, use_nGPT 0": ("ngpt-nvidia", {"use_nGPT": 0}),
    "tutorial without rates": ("ngpt-tutorial", {"learned_rates": False}),
    "nvidia with biases": ("ngpt-nvidia", {"bias": True}),
    "nvidia, use_nGPT 0, with biases": ("ngpt-nvidia", {"use_nGPT": 0, "bias": True}),
}


@dataclass(frozen=True)
class Converted:
    """A hot model, the MixFormer that it became, and the reference's results."""

    source: Path
    ours: Path
    evidence: Evidence


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Converted]:
    made: dict[str, Converted] = {}

    def make(kind: str) -> Converted:
        if kind not in made:
            family, overrides = KINDS[kind]
            place = tmp_path_factory.mktemp("ngpt")
            source = make_hot(family, place / "source", seed=3, **overrides)
            ours = convert(source, family, output=place / "ours").output
            evidence = open_reference(
                source, lambda r, used: reference_prompts(source, r.model.config, used), torch.float64
            )
            made[kind] = Converted(source, ours, evidence)
        return made[kind]

    return make


CONTROLS = [
    ("tutorial", "residual add taken for lerp", 1e-2),
    ("nvidia", "residual lerp taken for add", 1e-2),
    ("tutorial", "a softmax where there is none", 1e-2),
    ("tutorial", "later keys score ten times as much", 1e-9),
    ("nvidia", "a rotation for the odd turn", 1e-2),
    ("nvidia, use_nGPT 0", "a rotation for the odd turn", 1e-2),
    ("tutorial", "frequencies by reciprocal for pow", 1e-9),
    ("tutorial", "frequencies by exp for pow", 1e-9),
    ("nvidia", "frequencies by reciprocal for exp", 1e-8),
    ("nvidia", "frequencies by pow for exp", 1e-8),
    ("nvidia, use_nGPT 0", "frequencies by reciprocal for exp", 1e-8),
    ("nvidia", "scores divided by sqrt(d) for multiplied", 1e-2),
    ("tutorial", "gate and up swapped", 1e-2),
    ("nvidia", "gate and up swapped", 1e-2),
    ("tutorial", "q and k permuted without their scale", 1e-3),
    ("nvidia", "q and k permuted without their scale", 1e-3),
    ("tutorial", "qk_scale lost", 1e-3),
    ("tutorial", "attn_alpha lost", 1e-3),
    ("tutorial", "mlp_alpha lost", 1e-3),
    *(("nvidia", f"{name} lost", 1e-3) for name in ("qk_scale", "up_scale", "gate_scale", "attn_alpha", "logit_scale")),
    ("tutorial", "rows normalised again", 1e-2),
    ("nvidia", "rows normalised again", 1e-2),
    ("nvidia", "learned scales passed through bfloat16", 1e-4),
    ("nvidia, use_nGPT 0", "norm eps x 10", 1e-8),
]


@pytest.mark.parametrize(("kind", "name", "least"), CONTROLS)
def test_another_function_fails_l2(
    kind: str, name: str, least: float, converted: Callable[[str], Converted], tmp_path: Path
) -> None:
    made = converted(kind)
    sound = admit(made.ours)
    (fault,) = [fault for fault in catalogue(sound) if fault.name == name]
    patient = sound.clone()
    fault.plant(patient, random.Random(0))
    level = judge_alone(discharge(patient, made.ours, tmp_path), made.evidence)
    assert level.status is Status.FAIL
    assert level.number is not None and level.number > least


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS)[2:])
def test_every_fault_of_the_kinds_that_the_self_test_leaves_out_is_caught(
    kind: str, converted: Callable[[str], Converted], tmp_path: Path
) -> None:
    made = converted(kind)
    sound = admit(made.ours)
    faults = [fault for fault in catalogue(sound) if fault.name not in SILENT_WITHOUT_RATES or "without" not in kind]
    assert len(faults) > 40
    for fault in faults:
        patient = sound.clone()
        fault.plant(patient, random.Random(0))
        level = judge_alone(discharge(patient, made.ours, tmp_path / "sick"), made.evidence)
        assert level.status is Status.FAIL, fault.name


SILENT_WITHOUT_RATES = {"attn_alpha and mlp_alpha swapped", "attn_alpha lost", "mlp_alpha lost"}
"""Without learned rates both are 1 everywhere, which is how they begin."""


@pytest.mark.parametrize("kind", ["tutorial", "nvidia"])
@pytest.mark.parametrize("fault", list(code_faults()), ids=lambda fault: fault.name)
def test_another_formula_in_the_code_fails_l2(fault: Any, kind: str, converted: Callable[[str], Converted]) -> None:
    made = converted(kind)
    runner = ModelRunner(load_model(made.ours, torch.float64))
    assert fault.plant(runner.model)
    level = judge_function(runner, made.evidence, FLOAT64)
    assert level.status is Status.FAIL and level.number is not None and level.number > 1e-3


def test_faults_of_this_code_cannot_be_planted_elsewhere(mixformer: Path) -> None:
    model = load_model(mixformer, torch.float64).model
    assert not any(fault.plant(model) for fault in code_faults())


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_model_passes(kind: str, converted: Callable[[str], Converted]) -> None:
    made = converted(kind)
    level = judge_alone(made.ours, made.evidence)
    assert level.status is Status.PASS and level.number is not None and level.number < 1e-13


def scaled(role: str) -> Callable[[Patient], None]:
    return lambda patient: multiply(patient.part(role), 2.0)


def multiply(part: Tensor, by: float | Tensor) -> None:
    part.mul_(by)


def one_sign(role: str) -> Callable[[Patient], None]:
    def change(patient: Patient) -> None:
        patient.part(role)[3] *= -1

    return change


SILENT: dict[str, tuple[str, Callable[[Patient], None]]] = {
    "a factor on v": ("tutorial", scaled("1.v")),
    "a factor on o": ("nvidia", scaled("1.o")),
    "a factor on q": ("nvidia", scaled("0.q")),
    "a factor on k": ("tutorial", scaled("0.k")),
    "a factor on up": ("nvidia", scaled("2.up")),
    "one sign in S_qk": ("tutorial", one_sign("1.qk_scale")),
    "one sign in sqk": ("nvidia", one_sign("1.qk_scale")),
    "one sign in a rate": ("tutorial", one_sign("0.attn_alpha")),
    "all signs of a rate": ("nvidia", lambda patient: multiply(patient.part("0.mlp_alpha"), -1.0)),
    "S_uv": ("tutorial", lambda patient: multiply(patient.part("2.idle_scale"), torch.linspace(-2.0, 2.0, 384))),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_no_function_shows_fails_l1_and_passes_l2(
    name: str, converted: Callable[[str], Converted], tmp_path: Path
) -> None:
    kind, change = SILENT[name]
    made = converted(kind)
    patient = admit(made.ours)
    change(patient)
    verdict = compare(discharge(patient, made.ours, tmp_path), made.source, levels=["L0", "L1", "L2"])
    assert [verdict.level(level).status for level in ("L0", "L1", "L2")] == [Status.PASS, Status.FAIL, Status.PASS]
    assert verdict.level("L1").number == 1.0
    assert verdict.verdict is Status.FAIL


HYPOTHESES = [
    ("tutorial", "a softmax where there is none", "attn_fn is softmax and should be masked_linear"),
    ("tutorial", "frequencies by exp for pow", "rotary_formula is exp and should be pow"),
    ("tutorial", "attn_alpha and mlp_alpha swapped", "attn_alpha and mlp_alpha are exchanged"),
    ("nvidia", "residual lerp taken for add", "residual is add and should be lerp"),
    ("nvidia", "q and k permuted without their scale", "entries of qk_scale are in interleaved rotary order"),
    ("nvidia", "another base of all scales", "scaling is 0.12625 and should be 0.125"),
    ("nvidia, use_nGPT 0", "a rotation for the odd turn", "rotary_style is half and should be ngpt_nvidia"),
]


@pytest.mark.parametrize(("kind", "name", "claim"), HYPOTHESES)
def test_one_mistake_is_named(
    kind: str, name: str, claim: str, converted: Callable[[str], Converted], tmp_path: Path
) -> None:
    made = converted(kind)
    patient = admit(made.ours)
    (fault,) = [fault for fault in catalogue(patient) if fault.name == name]
    fault.plant(patient, random.Random(0))
    verdict = compare(discharge(patient, made.ours, tmp_path), made.source, levels=["L2"])
    assert verdict.hypothesis is not None and verdict.hypothesis.startswith(claim)


def test_gate_and_up_with_their_scales_are_named_as_one_mistake(
    converted: Callable[[str], Converted], tmp_path: Path
) -> None:
    made = converted("nvidia")
    patient = admit(made.ours)
    for i in range(patient.anatomy.n_layer):
        patient.swap(f"{i}.up", f"{i}.gate")
        patient.swap(f"{i}.up_scale", f"{i}.gate_scale")
    verdict = compare(discharge(patient, made.ours, tmp_path), made.source, levels=["L2"])
    assert str(verdict.hypothesis).startswith("gate and up are exchanged, with their scales")


def test_a_fault_at_the_last_position_alone_is_placed(converted: Callable[[str], Converted], tmp_path: Path) -> None:
    """Without a softmax q and k act there, beside positions that are 1e8 times as large."""
    made = converted("tutorial")
    patient = admit(made.ours)
    patient.part("1.q")[2, 5] *= -1
    verdict = compare(discharge(patient, made.ours, tmp_path), made.source, levels=["L2"])
    assert str(verdict.first_divergence).startswith("layer 1, attention")
