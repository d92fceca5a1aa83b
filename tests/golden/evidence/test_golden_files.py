"""Golden files: what they hold, what can be judged from them alone, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from golden import GoldenError, Status, compare, describe, record
from golden.errors import GoldenFileError, GoldenMismatchError, UnknownLevelError
from golden.evidence.golden_file import read_golden
from golden.evidence.recording import SEED
from golden.evidence.sketch import Sketch, coarse_divergence, project
from golden.faults.model_copy import admit, discharge
from golden.faults.self_testing import judge_alone
from golden.models.hot import make_hot


@pytest.fixture(scope="module")
def goldens(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("goldens")
    return {form: record(reference, folder / form, form=form, hidden=True) for form in ("full", "compact")}


@pytest.mark.parametrize("form", ["full", "compact"])
def test_a_sound_candidate_passes_from_a_golden_alone(form: str, goldens: dict[str, Path], mixformer: Path) -> None:
    verdict = compare(mixformer, golden=goldens[form])
    assert verdict.verdict is Status.PASS
    assert verdict.level("L2").number is not None and verdict.level("L2").number < 1e-12
    assert verdict.level("L3").status is Status.PASS
    assert verdict.level("L1").status is Status.NOT_RUN


@pytest.mark.parametrize("form", ["full", "compact"])
def test_faults_fail_from_a_golden_alone_and_are_located(
    form: str, goldens: dict[str, Path], mixformer: Path, tmp_path: Path
) -> None:
    patient = admit(mixformer)
    patient.turn("eps", 1e-6)
    verdict = compare(discharge(patient, mixformer, tmp_path), golden=goldens[form], levels=["L2"])
    assert verdict.verdict is Status.FAIL
    assert verdict.first_divergence is not None and verdict.first_divergence.startswith("layer 0, norm 1")
    assert verdict.hypothesis is not None and verdict.hypothesis.startswith("eps is 1e-06")


def test_a_golden_does_not_need_the_folder_that_it_came_from(mixformer: Path, reference: Path, tmp_path: Path) -> None:
    patient = admit(reference)
    gone = discharge(patient, reference, tmp_path / "gone")
    file = record(gone, tmp_path / "golden", dtypes=())
    for path in gone.iterdir():
        path.unlink()
    gone.rmdir()
    assert compare(mixformer, golden=file).verdict is Status.PASS


def test_one_embedding_row_outside_all_prompts_is_found_by_its_projection(tmp_path: Path) -> None:
    source = make_hot("llama", tmp_path / "source", vocab_size=2003)
    golden = read_golden(record(source, tmp_path / "golden", form="compact", dtypes=()))
    patient = admit(source)
    patient.part("embed")[1000, 7] *= -1
    level = judge_alone(discharge(patient, source, tmp_path / "sick"), golden)
    assert level.status is Status.FAIL
    assert "token embeddings" in level.detail


def test_a_compact_golden_of_a_large_vocabulary_is_small(tmp_path: Path) -> None:
    source = make_hot("llama", tmp_path / "source", vocab_size=8009)
    sizes = {form: record(source, tmp_path / form, form=form).stat().st_size for form in ("full", "compact")}
    assert sizes["compact"] <= 0.02 * sizes["full"]


def test_a_golden_of_short_prompts_is_small_and_still_finds_faults(
    reference: Path, mixformer: Path, tmp_path: Path
) -> None:
    short = record(reference, tmp_path / "short", tokens=32, dtypes=())
    assert {prompt["tokens"] for prompt in describe(short)["prompts"]} == {32}
    assert short.stat().st_size < 0.5 * record(reference, tmp_path / "long", dtypes=()).stat().st_size
    assert compare(mixformer, golden=short, levels=["L0", "L2", "L4"]).verdict is Status.PASS
    patient = admit(mixformer)
    patient.turn("eps", 1e-6)
    candidate = discharge(patient, mixformer, tmp_path / "candidate")
    assert compare(candidate, golden=short, levels=["L2"]).verdict is Status.FAIL


@pytest.mark.parametrize("tokens", [0, 31, -5])
def test_prompts_that_show_too_little_are_refused(tokens: int, reference: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownLevelError, match="32 or more"):
        record(reference, tmp_path / "short", tokens=tokens)
    assert list(tmp_path.iterdir()) == []


def test_the_form_follows_the_size_of_the_logits(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert describe(record(reference, tmp_path / "one", dtypes=()))["form"] == "full"
    monkeypatch.setattr("golden.evidence.recording.FULL_LIMIT", 1000)
    assert describe(record(reference, tmp_path / "two", dtypes=()))["form"] == "compact"


def test_recording_twice_gives_the_same_bytes(reference: Path, tmp_path: Path) -> None:
    one, two = (record(reference, tmp_path / name).read_bytes() for name in ("one", "two"))
    assert one == two


def test_the_description_says_what_is_inside_and_what_is_not(goldens: dict[str, Path]) -> None:
    described = describe(goldens["compact"])
    assert json.dumps(described)
    assert described["family"] == "llama"
    assert set(described["floors"]) == {"float32", "bfloat16", "float16"}
    assert "model.safetensors" in described["hashes"] and "config.json" in described["hashes"]
    assert described["hidden_states"] is True
    assert len(described["cannot_see"]) > len(describe(goldens["full"])["cannot_see"]) >= 1


def test_a_golden_beside_its_own_reference_is_used_with_all_levels(
    goldens: dict[str, Path], mixformer: Path, reference: Path
) -> None:
    verdict = compare(mixformer, reference, golden=goldens["full"], levels=["L0", "L1", "L2"])
    assert [verdict.level(name).status for name in ("L0", "L1", "L2")] == [Status.PASS] * 3


def test_a_golden_beside_another_reference_is_refused(
    goldens: dict[str, Path], mixformer: Path, tied_reference: Path
) -> None:
    with pytest.raises(GoldenMismatchError, match="recorded from other files") as caught:
        compare(mixformer, tied_reference, golden=goldens["full"])
    assert caught.value.exit_code == 3


def test_a_golden_of_other_weights_is_no_pass(goldens: dict[str, Path], tmp_path: Path) -> None:
    other = make_hot("llama", tmp_path, seed=99)
    assert compare(other, golden=goldens["compact"], levels=["L2"]).verdict is Status.FAIL


def test_a_golden_of_a_larger_vocabulary_is_no_pass_and_says_so(goldens: dict[str, Path], tmp_path: Path) -> None:
    other = make_hot("llama", tmp_path, seed=7, vocab_size=200)
    level = compare(other, golden=goldens["full"], levels=["L2"]).level("L2")
    assert level.status is Status.FAIL and "200 rows of token embeddings, the reference 331" in level.detail


def test_a_golden_of_another_family_than_the_candidate_was_made_from_fails_l0(
    goldens: dict[str, Path], mixformer: Path, tmp_path: Path
) -> None:
    patient = admit(mixformer)
    patient.config["converted_from"] = {"family": "gpt2", "fields": {}}
    level = compare(discharge(patient, mixformer, tmp_path), golden=goldens["full"], levels=["L0"]).level("L0")
    assert level.status is Status.FAIL and "made from gpt2" in level.detail


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "golden file cannot be read"),
        (b"\x00" * 64, "golden file cannot be read"),
        (None, "golden file cannot be read"),
    ],
)
def test_files_that_are_no_safetensors_are_refused(
    content: bytes | None, words: str, mixformer: Path, tmp_path: Path
) -> None:
    path = tmp_path / "golden"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GoldenFileError, match=words):
        compare(mixformer, golden=path)


def test_a_truncated_golden_is_refused(goldens: dict[str, Path], mixformer: Path, tmp_path: Path) -> None:
    path = tmp_path / "golden"
    path.write_bytes(goldens["full"].read_bytes()[:-1000])
    with pytest.raises(GoldenFileError, match="record it again"):
        compare(mixformer, golden=path)


def test_weights_are_not_taken_for_a_golden(mixformer: Path) -> None:
    with pytest.raises(GoldenFileError, match="but no golden file"):
        compare(mixformer, golden=mixformer / "model.safetensors")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ('{"version": 99}', "version 99"),
        ('{"version": 1}', "version 1, expected 2"),
        ("{", "its JSON cannot be read"),
        ("[1]", "its JSON is not an object"),
        ('{"version": 2}', "'form' is missing"),
    ],
)
def test_goldens_of_another_kind_are_refused(
    header: str, words: str, goldens: dict[str, Path], mixformer: Path, tmp_path: Path
) -> None:
    path = tmp_path / "golden"
    save_file(load_file(goldens["compact"]), path, {"mixformer-golden": header})
    with pytest.raises(GoldenFileError, match=words):
        compare(mixformer, golden=path)


def rewritten(golden: Path, target: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object]) -> Path:
    """The golden with something changed, as a slip of a disk or of a hand would."""
    with safe_open(golden, framework="pt") as file:
        header, tensors = json.loads(file.metadata()["mixformer-golden"]), load_file(golden)
    change(header, tensors)
    save_file(tensors, target, {"mixformer-golden": json.dumps(header, sort_keys=True)})
    return target


@pytest.mark.parametrize(
    "change",
    [
        lambda header, tensors: header.update(std=1e9),
        lambda header, tensors: header["calibrations"]["bfloat16"].update(rms=1e9),
        lambda header, tensors: header.update(prompts=header["prompts"][:1]),
        lambda header, tensors: header.update(dtype="float32"),
        lambda header, tensors: tensors.update({"continuation.margins": tensors["continuation.margins"][:0]}),
        lambda header, tensors: tensors["columns.0"].mul_(1.0 + 1e-12),
        lambda header, tensors: tensors.pop("columns.0"),
    ],
    ids=["scale", "floor", "fewer prompts", "precision", "no text", "logits", "a tensor less"],
)
def test_a_golden_that_was_changed_judges_nobody(
    change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object],
    goldens: dict[str, Path],
    mixformer: Path,
    tmp_path: Path,
) -> None:
    same = rewritten(goldens["compact"], tmp_path / "same", lambda header, tensors: None)
    assert compare(mixformer, golden=same, levels=["L2"]).verdict is Status.PASS
    with pytest.raises(GoldenFileError, match=r"changed after it was recorded|the tensor '(continuation|columns)\."):
        compare(mixformer, golden=rewritten(goldens["compact"], tmp_path / "other", change), levels=["L2"])


@pytest.mark.parametrize(
    ("field", "value"), [("n_positions", 4), ("bos_token_id", 7)], ids=["a shorter context", "another start token"]
)
def test_config_that_no_prompt_reaches_is_held_against_the_golden(
    field: str, value: int, goldens: dict[str, Path], mixformer: Path, tmp_path: Path
) -> None:
    patient = admit(mixformer)
    patient.config[field] = value
    level = compare(discharge(patient, mixformer, tmp_path), golden=goldens["full"], levels=["L0"]).level("L0")
    assert level.status is Status.FAIL and f"config: {field} is {value}" in level.detail


def test_a_window_longer_than_any_prompt_is_not_lost_unseen(windowed: tuple[Path, Path], tmp_path: Path) -> None:
    source, ours = (admit(folder) for folder in windowed)
    source.config["sliding_window"] = 5000
    ours.config["architecture"]["mixer"]["window_size"] = "(4999, 0)"
    golden = record(discharge(source, windowed[0], tmp_path / "source"), tmp_path / "golden", dtypes=())
    kept = compare(discharge(ours, windowed[1], tmp_path / "kept"), golden=golden, levels=["L0", "L2"])
    assert (kept.level("L0").status, kept.level("L2").status) == (Status.PASS, Status.UNVERIFIED)
    assert "no prompt is longer than the window of 5000" in kept.level("L2").detail
    del ours.config["architecture"]["mixer"]["window_size"]
    lost = compare(discharge(ours, windowed[1], tmp_path / "lost"), golden=golden, levels=["L0", "L2"])
    assert (lost.level("L0").status, lost.level("L2").status) == (Status.FAIL, Status.UNVERIFIED)


def test_a_place_that_cannot_hold_a_golden_is_refused_before_the_reference_runs(
    goldens: dict[str, Path], reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("golden.evidence.recording.open_reference", pytest.fail)
    with pytest.raises(GoldenError, match="is a folder"):
        record(reference, tmp_path, force=True)
    with pytest.raises(GoldenError, match="not a folder that can be written to"):
        record(reference, goldens["full"] / "golden")


def test_a_recording_that_fails_leaves_nothing_behind(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("golden.evidence.recording.save_file", full)
    with pytest.raises(GoldenError, match="No space left"):
        record(reference, tmp_path / "golden", dtypes=())
    assert list(tmp_path.iterdir()) == []


def test_a_reference_that_overflows_is_described_in_json(tmp_path: Path) -> None:
    patient = admit(make_hot("llama", tmp_path / "source"))
    for role in ("1.up", "1.gate"):
        patient.part(role).mul_(2000.0)
    wild = discharge(patient, tmp_path / "source", tmp_path / "wild")
    described = describe(record(wild, tmp_path / "golden"))
    assert described["floors"]["float16"]["rms"] is None
    assert json.dumps(described, allow_nan=False)


def test_an_existing_golden_is_only_replaced_when_told_to(reference: Path, tmp_path: Path) -> None:
    path = record(reference, tmp_path / "golden", dtypes=())
    with pytest.raises(GoldenError, match="exists already"):
        record(reference, path, dtypes=())
    assert record(reference, path, dtypes=(), force=True) == path


def test_kernels_cannot_be_judged_in_a_dtype_that_was_not_recorded(
    mixformer: Path, reference: Path, tmp_path: Path
) -> None:
    path = record(reference, tmp_path / "golden", dtypes=("bfloat16",))
    assert compare(mixformer, golden=path, levels=["L3"]).level("L3").status is Status.PASS
    with pytest.raises(GoldenFileError, match="does not hold the reference's own error in float16"):
        compare(mixformer, golden=path, levels=["L3"], dtype="float16")


def test_projections_have_the_size_of_the_mean_error_and_never_change() -> None:
    errors = torch.randn(2000, 997, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    projected = project(errors, 8, SEED)
    assert float(projected.square().mean().sqrt()) == pytest.approx(1.0, rel=0.05)
    assert project(torch.eye(3, dtype=torch.float64), 2, 0).sign().tolist() == [[-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]


def test_the_coarse_divergence_bounds_the_true_one_from_below() -> None:
    generator = torch.Generator().manual_seed(0)
    true = 3 * torch.randn(50, 301, generator=generator, dtype=torch.float64)
    found = true + 0.3 * torch.randn(50, 301, generator=generator, dtype=torch.float64)
    sketch = Sketch(301, 8, 4)
    largest = sketch.largest(true)
    coarse = coarse_divergence(sketch.columns(true, largest), sketch.columns(found, largest), 8)
    from golden.evidence.calibration import divergence

    exact = divergence(true, found)
    assert bool((coarse <= exact + 1e-12).all()) and float(coarse.mean()) > 0.1 * float(exact.mean())
