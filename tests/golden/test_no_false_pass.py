"""Ways in which a wrong model could be called right: each is closed, and each has the right model beside it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import mixformer  # noqa: F401  registers the Auto classes
from converters import convert
from converters.config.table import BASE, OURS_FREE
from converters.conversion import Request
from converters.errors import ConfigRefused
from converters.plan.options import Options
from converters.verdict_record import LEVELS, Run, obstacle, record_run
from golden import Status, compare, record
from golden.evidence.golden_file import read_golden
from golden.evidence.sketch import fitting_sketch
from golden.models.hot import make_hot


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(reference, candidate): a hot LLaMA and its MixFormer."""
    place = tmp_path_factory.mktemp("pair")
    reference = make_hot("llama", place / "reference", max_position_embeddings=32)
    return reference, convert(reference, output=place / "candidate").output


@pytest.fixture
def candidate(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    return shutil.copytree(pair[1], tmp_path / "candidate")


def edit(folder: Path, **fields: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def change(folder: Path, **tensors: Any) -> Path:
    """Replaces tensors by functions of them; None takes one away."""
    path = folder / "model.safetensors"
    state = load_file(path)
    for key, made in tensors.items():
        before = state.pop(key)
        state |= {} if made is None else {key: made(before).contiguous()}
    save_file(state, path, {"format": "pt"})
    return folder


QKV, HEAD = "layers.1.attn.Wqkv.weight", "layers.4.linear.weight"


# cross_sample_token_id


def test_a_token_that_cuts_attention_leaves_mixformer_for_no_family(candidate: Path, tmp_path: Path) -> None:
    edit(candidate, cross_sample_token_id=7)
    with pytest.raises(ConfigRefused, match="cross_sample_token_id is 7"):
        convert(candidate, to="llama", output=tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_token_that_cuts_attention_fails_l0(pair: tuple[Path, Path], candidate: Path) -> None:
    level = compare(edit(candidate, cross_sample_token_id=7), pair[0], levels=["L0"]).level("L0")
    assert level.status is Status.FAIL and "cross_sample_token_id" in level.detail


def test_no_field_called_free_changes_a_logit(pair: tuple[Path, Path], candidate: Path) -> None:
    """Each field that conversions carry without reading, at values of every kind: equal logits, or no model at all."""
    ids = torch.arange(3, 35)[None]
    config = json.loads((candidate / "config.json").read_text())
    expected, tried = logits(candidate, ids), 0
    for name in sorted((BASE | OURS_FREE) - {"model_type", "architectures", "converted_from"}):
        for value in (True, 3, "x", {"0": [0]}):
            (candidate / "config.json").write_text(json.dumps(_with(config, name, value)))
            try:
                found = logits(candidate, ids)
            except Exception:
                continue  # a model that cannot be built or run cannot be taken for another
            tried += 1
            assert torch.equal(found, expected), f"{name} = {value!r}"
    assert tried > 150
    (candidate / "config.json").write_text(json.dumps(_with(config, "cross_sample_token_id", 7)))
    assert not torch.equal(logits(candidate, ids), expected)  # the control: this one was called free


def _with(config: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    changed = json.loads(json.dumps(config))
    *parents, last = name.split(".")
    place = changed
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return changed


def logits(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        found: torch.Tensor = model(ids, use_cache=False).logits
    return found


# L1


@pytest.mark.parametrize(
    ("what", "made"),
    [
        ("missing", None),
        ("another shape", lambda t: t[:-1]),
        ("another dtype", lambda t: t.half()),
        ("wider, with another value", lambda t: t.double() * (1 + 1e-12)),
    ],
)
def test_l1_passes_no_weight_that_it_did_not_compare(
    what: str, made: Any, pair: tuple[Path, Path], candidate: Path
) -> None:
    verdict = compare(change(candidate, **{QKV: made}), pair[0], levels=["L1"])
    assert verdict.verdict is Status.FAIL and QKV in verdict.level("L1").detail, what


def test_an_extra_tensor_fails_l1(pair: tuple[Path, Path], candidate: Path) -> None:
    state = load_file(candidate / "model.safetensors") | {"layers.9.extra": torch.ones(3)}
    save_file(state, candidate / "model.safetensors", {"format": "pt"})
    assert compare(candidate, pair[0], levels=["L1"]).verdict is Status.FAIL


@pytest.mark.parametrize("to", ["mixformer", "llama"])
def test_the_same_numbers_in_a_wider_dtype_pass(
    to: str, pair: tuple[Path, Path], candidate: Path, tmp_path: Path
) -> None:
    reference, folder = pair if to == "mixformer" else (pair[1], convert(pair[1], to=to, output=tmp_path / "b").output)
    folder = candidate if to == "mixformer" else folder
    change(folder, **dict.fromkeys(load_file(folder / "model.safetensors"), lambda t: t.double()))
    verdict = compare(folder, reference, levels=["L0", "L1", "L2"])
    assert verdict.verdict is Status.PASS
    assert "in a wider dtype" in verdict.level("L0").detail


def test_the_verdict_says_on_which_levels_it_rests(pair: tuple[Path, Path]) -> None:
    assert compare(pair[1], pair[0], levels=["L0"]).line == "PASS (L0 only)"
    assert compare(pair[1], pair[0], levels=["L0", "L1"]).line == "PASS (L0 and L1 only)"
    assert compare(pair[1], pair[0]).line == "PASS"


# regimes that no prompt reaches


@pytest.mark.parametrize("layers", [["sliding_attention", "full_attention", "full_attention"], None])
def test_a_window_lost_is_seen_by_l2_alone(layers: list[str] | None, tmp_path: Path) -> None:
    window: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 300, "max_position_embeddings": 512}
    window |= {"layer_types": layers} if layers else {"max_window_layers": 0}
    reference = make_hot("qwen2", tmp_path / "reference", **window)
    ours = convert(reference, output=tmp_path / "ours").output
    assert compare(ours, reference, levels=["L2"]).verdict is Status.PASS
    config = json.loads((ours / "config.json").read_text())
    blocks = config["architecture"] if isinstance(config["architecture"], list) else [config["architecture"]]
    for block in blocks:
        mixer = block.get("mixer") or block["attn"]
        mixer.pop("window_size", None)
    edit(ours, architecture=config["architecture"])
    assert compare(ours, reference, levels=["L2"]).verdict is Status.FAIL


def test_a_window_that_only_the_candidate_has_is_reached(pair: tuple[Path, Path], candidate: Path) -> None:
    architecture = json.loads((candidate / "config.json").read_text())["architecture"]
    architecture["mixer"]["window_size"] = [299, 0]
    edit(candidate, architecture=architecture)
    assert compare(candidate, pair[0], levels=["L2"]).verdict is Status.FAIL


def test_a_length_that_costs_too_much_is_unverified_by_name(tmp_path: Path) -> None:
    reference = make_hot("mistral", tmp_path / "reference", sliding_window=70000, max_position_embeddings=131072)
    ours = convert(reference, output=tmp_path / "ours").output
    level = compare(ours, reference, levels=["L2"]).level("L2")
    assert level.status is Status.UNVERIFIED
    assert "no prompt is longer than the window of 70000 tokens" in level.detail


@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
def test_frequencies_beyond_the_original_context_are_reached(rope: str, tmp_path: Path) -> None:
    scaling: dict[str, Any] = {"rope_type": rope, "rope_theta": 1e4, "factor": 4.0}
    if rope == "longrope":
        scaling |= {"short_factor": [1.0] * 10, "long_factor": [1.0 + k for k in range(10)]}
        scaling["original_max_position_embeddings"] = 300
    reference = make_hot("llama", tmp_path / "r", rope_parameters=scaling, max_position_embeddings=300)
    ours = convert(reference, output=tmp_path / "ours").output
    assert compare(ours, reference, levels=["L2"]).verdict is Status.PASS
    config = json.loads((ours / "config.json").read_text())
    text = json.dumps(config["architecture"])
    wrong = text.replace('"factor": 4.0', '"factor": 2.0') if rope == "dynamic" else text.replace("10.0]", "12.0]")
    assert wrong != text
    edit(ours, architecture=json.loads(wrong))
    assert compare(ours, reference, levels=["L2"]).verdict is Status.FAIL


# one extreme logit


@pytest.fixture(scope="module")
def forbidding(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Phi, whose head has a bias, and its MixFormer: one token is forbidden by a bias of -3.4e38."""
    place = tmp_path_factory.mktemp("forbidding")
    reference = make_hot("phi", place / "reference", max_position_embeddings=32)
    change(reference, **{"lm_head.bias": _forbid})
    return reference, convert(reference, output=place / "candidate").output


def _forbid(bias: torch.Tensor) -> torch.Tensor:
    bias[5] = -3.4e38
    return bias


@pytest.mark.parametrize("form", ["live", "full", "compact"])
def test_one_extreme_logit_hides_no_fault(form: str, forbidding: tuple[Path, Path], tmp_path: Path) -> None:
    reference, ours = forbidding
    against: dict[str, Any] = {"reference": reference}
    if form != "live":
        against = {"golden": record(reference, tmp_path / "golden", form=form, dtypes=())}
    assert compare(ours, **against, levels=["L2"]).verdict is Status.PASS
    wrong = shutil.copytree(ours, tmp_path / "wrong")
    change(wrong, **{"layers.1.mixer.Wqkv.weight": _negate_row})
    assert compare(wrong, **against, levels=["L2"]).verdict is Status.FAIL
    other = shutil.copytree(ours, tmp_path / "other")
    architecture = json.loads((other / "config.json").read_text())["architecture"]
    architecture["norm"]["eps"] *= 100
    assert compare(edit(other, architecture=architecture), **against, levels=["L2"]).verdict is Status.FAIL


def _negate_row(weight: torch.Tensor) -> torch.Tensor:
    weight[3] *= -1
    return weight


# casts


def test_a_recorded_cast_is_named_and_without_its_record_fails(tmp_path: Path) -> None:
    reference = make_hot("llama", tmp_path / "reference", max_position_embeddings=32)
    request = Request(Options(dtype="bfloat16"))
    ours = convert(reference, output=tmp_path / "ours", request=request).output
    line = compare(ours, reference, levels=["L2"]).line
    assert line.startswith("PASS (L2 only) after --dtype bfloat16 (from conversion.json), ")
    assert float(line.split(", ")[1].split()[0]) > 1e-4
    (ours / "conversion.json").unlink()
    assert compare(ours, reference, levels=["L2"]).verdict is Status.FAIL


# the record


def judged(candidate: Path, reference: Path, **options: Any) -> str:
    """Judges and records, as the command does; gives the recorded verdict."""
    verdict = compare(candidate, reference, **options)
    assert record_run(candidate, Run(verdict.to_json(), verdict.asked, "cpu", reference))
    return str(json.loads((candidate / "conversion.json").read_text())["verdict"])


def test_only_all_levels_against_the_source_set_the_verdict(pair: tuple[Path, Path], candidate: Path) -> None:
    reference = pair[0]
    assert judged(candidate, reference, levels=["L0", "L2"]) == "UNVERIFIED"
    copy = shutil.copytree(reference, candidate.parent / "copy")
    edit(copy, _name_or_path="elsewhere")
    assert judged(candidate, copy) == "UNVERIFIED"
    assert judged(candidate, reference) == "PASS"
    assert obstacle(candidate) is None


def test_a_failure_takes_a_pass_away_and_a_changed_file_does_too(pair: tuple[Path, Path], candidate: Path) -> None:
    assert judged(candidate, pair[0]) == "PASS"
    change(candidate, **{QKV: _negate_row})
    assert "sha256 differs" in str(obstacle(candidate))
    assert judged(candidate, pair[0], levels=["L2"]) == "FAIL"
    assert "is FAIL, not PASS" in str(obstacle(candidate))


@pytest.mark.parametrize("what", ["edited", "added", "gone", "none"])
def test_a_record_that_does_not_fit_its_folder_vouches_for_nothing(
    what: str, pair: tuple[Path, Path], candidate: Path
) -> None:
    assert judged(candidate, pair[0]) == "PASS"
    path = candidate / "conversion.json"
    if what == "edited":
        path.write_text(path.read_text().replace('"L0"', '"L9"', 1))
    elif what == "added":
        (candidate / "tokenizer.json").write_text("{}")
    elif what == "gone":
        (candidate / "generation_config.json").unlink()
    else:
        path.unlink()
    assert obstacle(candidate)


def test_a_folder_without_a_record_is_judged_all_the_same(pair: tuple[Path, Path], candidate: Path) -> None:
    (candidate / "conversion.json").unlink()
    assert not record_run(candidate, Run({"verdict": "PASS"}, sorted(LEVELS), "cpu", pair[0]))
    assert not (candidate / "conversion.json").exists()


# compact golden files


@pytest.mark.parametrize("vocab", [97, 331, 1031, 5003])
def test_a_compact_golden_sees_exchanged_rows_of_the_head_at_every_vocabulary(vocab: int) -> None:
    """Of 2,000 drawn pairs of exchanged head rows, at least 99 % change a column."""
    sketch = fitting_sketch(vocab)
    assert sketch is not None
    generator = torch.Generator().manual_seed(vocab)
    true = torch.randn(40, vocab, generator=generator, dtype=torch.float64)
    largest = sketch.largest(true)
    columns, missed = sketch.columns(true, largest), 0
    for _ in range(2000):
        one, other = torch.randperm(vocab, generator=generator)[:2].tolist()
        wrong = true.clone()
        wrong[:, [one, other]] = true[:, [other, one]]
        error = (sketch.columns(wrong, largest) - columns).square().mean().sqrt()
        missed += float(error) < 1e-10 * math.sqrt(1.0)
    assert missed <= 20


def test_a_small_vocabulary_is_kept_in_full(tmp_path: Path) -> None:
    reference = make_hot("llama", tmp_path / "reference", vocab_size=31, max_position_embeddings=32)
    golden = read_golden(record(reference, tmp_path / "golden", form="compact", dtypes=()))
    assert golden.header["form"] == "full"


# hypotheses


def test_a_final_norm_taken_from_a_layer_is_not_called_a_tied_head(tmp_path: Path) -> None:
    reference = make_hot("llama", tmp_path / "reference", tie_word_embeddings=True, max_position_embeddings=32)
    ours = convert(reference, output=tmp_path / "ours").output
    norm = load_file(ours / "model.safetensors")["layers.1.ln_1.weight"]
    change(ours, **{"layers.4.ln.weight": lambda t: norm})
    verdict = compare(ours, reference, levels=["L2"])
    assert verdict.verdict is Status.FAIL
    assert str(verdict.hypothesis).startswith("final_norm holds what belongs to norm_1 of layer 0: applying")
