"""What a failed verdict says: the cause by layer, part and rows, proved by running, and never a guess."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from converters import convert
from golden import Status, Verdict, compare, record, verdict_lines
from golden.diagnosis.words import in_a_sentence
from golden.faults.model_copy import Patient, admit, discharge
from golden.models.hot import make_hot
from golden.verdict import Explanation
from golden.weights.places import place_of, rank

LEVELS = ["L0", "L1", "L2"]
Plant = Callable[[Patient], object]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A LLaMA and the MixFormer that it is converted to; no test writes to them."""
    folder = tmp_path_factory.mktemp("pair")
    source = make_hot("llama", folder / "source", seed=3)
    return source, convert(source, to="mixformer", output=folder / "ours").output


@pytest.fixture
def judge(pair: tuple[Path, Path], tmp_path: Path) -> Callable[..., Verdict]:
    """Judges the conversion after something was planted into it."""

    def judged(plant: Plant, **options: object) -> Verdict:
        source, ours = pair
        patient = admit(ours)
        plant(patient)
        candidate = discharge(patient, ours, tmp_path / "candidate")
        against = options or {"reference": source}
        return compare(candidate, levels=LEVELS, **against)  # type: ignore[arg-type]

    return judged


TENSORS = [
    ("0.o", "2.o", "o of layers 0 and 2 are exchanged", "layer 0, attention"),
    ("1.norm_1", "1.norm_2", "layer 1: norm_1 and norm_2 are exchanged", "layer 1, norm 1"),
    ("1.norm_2", "2.norm_1", "norm_2 of layer 1 and norm_1 of layer 2 are exchanged", "layer 1, norm 2"),
    ("1.gate", "2.up", "gate of layer 1 and up of layer 2 are exchanged", "layer 1, mlp"),
    ("2.k", "2.v", "layer 2: k and v are exchanged", "layer 2, attention"),
]


@pytest.mark.parametrize(("one", "other", "claim", "place"), TENSORS)
def test_two_exchanged_tensors_are_named_and_the_swap_makes_it_pass(
    one: str, other: str, claim: str, place: str, judge: Callable[..., Verdict]
) -> None:
    verdict = judge(lambda patient: patient.swap(one, other))
    assert verdict.verdict is Status.FAIL
    assert str(verdict.first_divergence).startswith(place)
    assert str(verdict.hypothesis).startswith(f"{claim}: applying the swap makes it pass")
    (said,) = verdict.explanations
    assert (said.kind, said.undo, said.proved, said.place) == ("weights", "the swap", True, place)
    assert said.rms is not None and said.rms < 1e-13
    assert any(claim in line for line in verdict_lines(verdict))
    assert json.loads(json.dumps(verdict.to_json()))["explanations"][0]["claim"] == claim


@pytest.mark.parametrize("form", ["full", "compact"])
@pytest.mark.parametrize(("one", "other", "claim", "place"), TENSORS[:2])
def test_from_a_golden_file_with_hidden_states_the_same_is_said(
    one: str,
    other: str,
    claim: str,
    place: str,
    form: str,
    judge: Callable[..., Verdict],
    pair: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    golden = record(pair[0], tmp_path / "golden", form=form, dtypes=(), hidden=True)
    verdict = judge(lambda patient: patient.swap(one, other), golden=golden)
    assert str(verdict.first_divergence).startswith(place)
    assert str(verdict.hypothesis).startswith(f"{claim}: applying the swap makes it pass")


@pytest.fixture(scope="module")
def smol(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A tied LLaMA with nine heads in three groups, as SmolLM2 has them, its conversion, and its golden file."""
    folder = tmp_path_factory.mktemp("smol")
    sizes = {"hidden_size": 72, "head_dim": 8, "num_attention_heads": 9, "num_key_value_heads": 3}
    source = make_hot("llama", folder / "source", seed=5, **sizes, num_hidden_layers=4, tie_word_embeddings=True)
    ours = convert(source, to="mixformer", output=folder / "ours").output
    return source, ours, record(source, folder / "golden", dtypes=(), hidden=True)


@pytest.mark.parametrize("golden", [False, True], ids=["reference", "golden file"])
@pytest.mark.parametrize("seed", range(6))
def test_any_two_stored_tensors_of_one_shape_may_be_exchanged(
    seed: int, golden: bool, smol: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    source, ours, file = smol
    patient = admit(ours)
    pairs = [
        (a, b)
        for a in sorted(patient.weights)
        for b in sorted(patient.weights)
        if a < b and patient.weights[a].shape == patient.weights[b].shape
    ]
    one, other = random.Random(seed).choice(pairs)
    patient.weights[one], patient.weights[other] = patient.weights[other], patient.weights[one]
    candidate = discharge(patient, ours, tmp_path / "candidate")
    verdict = compare(candidate, golden=file, levels=LEVELS) if golden else compare(candidate, source, levels=LEVELS)
    touched = [role for role, part in patient.anatomy.parts.items() if part.key in (one, other)]
    assert verdict.verdict is Status.FAIL
    assert str(verdict.first_divergence).startswith(min(map(place_of, touched), key=rank))
    (said,) = verdict.explanations
    assert said.claim.endswith("are exchanged") and said.undo == "the swap" and said.proved
    assert "applying the swap makes it pass" in str(verdict.hypothesis)


def test_without_hidden_states_the_answer_says_why_there_is_no_place(
    judge: Callable[..., Verdict], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    golden = record(pair[0], tmp_path / "golden", dtypes=())
    verdict = judge(lambda patient: patient.swap("0.o", "2.o"), golden=golden)
    assert "record it with --hidden" in str(verdict.first_divergence)


def test_several_mistakes_are_listed_in_order_of_place(judge: Callable[..., Verdict]) -> None:
    def plant(patient: Patient) -> None:
        patient.swap("2.gate", "2.up")
        patient.turn("theta", 5e5)
        patient.part("1.norm_1").sub_(1.0)

    verdict = judge(plant)
    claims = [one.claim for one in verdict.explanations]
    assert claims[0].startswith("theta is 500000.0 and should be 10000.0")
    assert claims[1:] == ["layer 1: norm_1 is too small by 1", "layer 2: gate and up are exchanged"]
    assert all(one.proved for one in verdict.explanations)


def test_two_mistakes_are_found_one_after_the_other_from_a_golden_file(
    judge: Callable[..., Verdict], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    golden = record(pair[0], tmp_path / "golden", dtypes=(), hidden=True)

    def plant(patient: Patient) -> None:
        patient.swap("1.norm_1", "1.norm_2")
        patient.swap("2.gate", "2.up")

    verdict = judge(plant, golden=golden)
    assert [one.claim for one in verdict.explanations] == [
        "layer 1: norm_1 and norm_2 are exchanged",
        "layer 2: gate and up are exchanged",
    ]
    assert all(one.proved for one in verdict.explanations)


def test_a_mistake_of_the_weights_stays_undone_while_fields_are_tried(
    judge: Callable[..., Verdict], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    golden = record(pair[0], tmp_path / "golden", dtypes=(), hidden=True)

    def plant(patient: Patient) -> None:
        for layer in range(3):
            patient.swap(f"{layer}.norm_1", f"{layer}.norm_2")
        patient.turn("theta", 5e5)
        patient.turn("activation", "relu")

    verdict = judge(plant, golden=golden)
    claims = [one.claim for one in verdict.explanations]
    assert claims == [
        "norm_1 and norm_2 are exchanged",
        "theta is 500000.0 and should be 10000.0",
        "activation is relu and should be silu",
    ]
    assert all(one.proved for one in verdict.explanations)


def _two_fields_and_one_without_effect(patient: Patient) -> None:
    patient.turn("theta", 5e5)
    patient.turn("eps", 1e-3)
    patient.config["architecture"]["mixer"]["dropout"] = 0.25


def test_of_several_fields_those_that_are_needed_are_named(judge: Callable[..., Verdict]) -> None:
    verdict = judge(_two_fields_and_one_without_effect)
    claims = [one.claim for one in verdict.explanations]
    assert sorted(claim.partition(" ")[0] for claim in claims) == ["eps", "theta"]
    assert all(one.proved for one in verdict.explanations)


def test_a_field_is_not_named_where_the_model_fails_without_it_too(judge: Callable[..., Verdict]) -> None:
    def plant(patient: Patient) -> None:
        patient.turn("theta", 5e5)
        patient.part("1.down")[3:5] += torch.linspace(0.1, 1.0, 2 * patient.part("1.down").shape[1]).view(2, -1)

    verdict = judge(plant)
    assert [one.kind for one in verdict.explanations] == ["unexplained"]
    assert verdict.hypothesis is None


def test_what_nothing_explains_is_said_so_and_is_no_hypothesis(judge: Callable[..., Verdict]) -> None:
    def plant(patient: Patient) -> None:
        patient.part("1.down")[3:5] += torch.linspace(0.1, 1.0, 2 * patient.part("1.down").shape[1]).view(2, -1)

    verdict = judge(plant)
    assert verdict.hypothesis is None
    (said,) = verdict.explanations
    assert said.kind == "unexplained" and not said.proved
    assert said.claim.startswith("layer 1: ") and "2 rows of down" in said.claim


def test_beside_something_unexplained_no_claim_is_called_proved(judge: Callable[..., Verdict]) -> None:
    def plant(patient: Patient) -> None:
        patient.swap("0.k", "0.v")
        patient.part("1.down")[3:5] += torch.linspace(0.1, 1.0, 2 * patient.part("1.down").shape[1]).view(2, -1)

    verdict = judge(plant)
    named = [one for one in verdict.explanations if one.kind == "weights"]
    assert [one.claim for one in named] == ["layer 0: k and v are exchanged"]
    assert not named[0].proved and "makes it pass" not in str(verdict.hypothesis)


def test_an_undo_that_computes_is_judged_by_the_precision_of_the_stored_dtype(judge: Callable[..., Verdict]) -> None:
    def plant(patient: Patient) -> None:
        for i in range(3):
            patient.part(f"{i}.q").mul_(20**-0.5)

    (said,) = judge(plant).explanations
    assert said.claim == "q is multiplied by 0.223607 (1/sqrt(20); 20 is the head size) in all layers"
    assert said.proved and "float32" in said.note
    assert said.rms is not None and 1e-10 < said.rms < 1e-6


def _missing(patient: Patient) -> None:
    del patient.weights["layers.2.attn.out_proj.weight"]


def _other_shape(patient: Patient) -> None:
    patient.weights["layers.2.attn.out_proj.weight"] = torch.zeros(48, 90)


def _more(patient: Patient) -> None:
    patient.weights["adapter.weight"] = torch.zeros(3)


def _not_a_number(patient: Patient) -> None:
    patient.part("1.o")[3, 4] = float("nan")


def _a_layer_less(patient: Patient) -> None:
    for key in [key for key in patient.weights if key.startswith("layers.2.")]:
        del patient.weights[key]


BROKEN: list[tuple[Plant, str]] = [
    (_missing, "layers.2.attn.out_proj.weight is missing"),
    (_other_shape, "layers.2.attn.out_proj.weight is F32 [48, 90], expected F32 [48, 80]"),
    (_more, "adapter.weight is not expected"),
    (_not_a_number, "layer 1: one value of o (row 3, column 4) is NaN or infinite"),
    (_a_layer_less, "layer 1 is missing"),
]


@pytest.mark.parametrize(("plant", "claim"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_candidate_is_told_what_is_wrong_with_it(
    plant: Plant, claim: str, judge: Callable[..., Verdict]
) -> None:
    verdict = judge(plant)
    assert verdict.verdict is Status.FAIL
    assert [one.claim for one in verdict.explanations] == [claim]


@pytest.mark.parametrize("golden", [True, False], ids=["golden file", "reference"])
def test_another_number_of_layers_is_named(golden: bool, pair: tuple[Path, Path], tmp_path: Path) -> None:
    small = make_hot("llama", tmp_path / "small", seed=3, num_hidden_layers=2)
    candidate = convert(small, to="mixformer", output=tmp_path / "ours").output
    if golden:
        verdict = compare(candidate, golden=record(pair[0], tmp_path / "golden", dtypes=()), levels=LEVELS)
    else:
        verdict = compare(candidate, pair[0], levels=LEVELS)
    assert str(verdict.hypothesis).startswith("the candidate has 2 layers, the reference 3")


def test_a_way_back_with_a_missing_tensor_is_told_its_key(pair: tuple[Path, Path], tmp_path: Path) -> None:
    source, ours = pair
    patient = admit(source)
    del patient.weights["model.layers.1.mlp.up_proj.weight"]
    verdict = compare(discharge(patient, source, tmp_path / "candidate"), ours, levels=LEVELS)
    assert verdict.hypothesis == "model.layers.1.mlp.up_proj.weight is missing"


def test_one_sentence_holds_a_few_claims_and_counts_the_rest() -> None:
    many = [Explanation(f"claim {k}", "layer 0", "weights", "the swap", True, 1e-15) for k in range(9)]
    said = str(in_a_sentence(many))
    assert "claim 5; and 3 more: undoing all of it, by the swap, makes it pass" in said
    assert in_a_sentence([Explanation("odd", "layer 0", "unexplained")]) is None
