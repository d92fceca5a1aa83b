"""Models larger than memory are run layer by layer: the same numbers and verdicts, a fraction of the memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import conversion_mapping
from transformers.core_model_loading import Chunk, WeightConverter

from golden import Status, Verdict, case, compare, record
from golden.errors import FolderError, UnusableReferenceError, UnverifiableError
from golden.faults.model_copy import Patient, admit, discharge
from golden.models.hot import make_hot
from golden.models.loading import load_model, silenced
from golden.models.memory import plan_run
from golden.models.running import ModelRunner
from golden.models.streamed_loading import largest_layer, open_streamed

IDS = tuple(range(3, 60))

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "dynamic": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, "max_position_embeddings": 24},
    ),
    "mistral": ("mistral", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "phi": ("phi", {}),
    "phi3": ("phi3", {}),
    "gpt2": ("gpt2", {"tie_word_embeddings": True}),
    "codegen": ("codegen", {}),
    "mixtral": ("mixtral", {}),
    "qwen2moe": ("qwen2moe", {}),
}


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, torch.float64) for name in MODELS), ("llama", torch.float32), ("phi3", torch.float32)]
)
def test_logits_are_those_of_the_whole_model_bit_for_bit(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    family, overrides = MODELS[name]
    source = make_hot(family, tmp_path, seed=5, **overrides)
    whole, streamed = (ModelRunner(opener(source, dtype, "eager")) for opener in (load_model, open_streamed))
    assert all(parameter.is_meta for parameter in streamed.model.parameters())
    for ids in (IDS, IDS[:7]):
        assert torch.equal(streamed.logits(ids), whole.logits(ids))


def test_a_mixformer_in_shards_is_the_same_too(mixformer: Path, tmp_path: Path) -> None:
    model = load_model(mixformer, torch.float32).model
    with silenced():
        model.save_pretrained(tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    streamed = ModelRunner(open_streamed(tmp_path, torch.float64))
    assert torch.equal(streamed.logits(IDS), ModelRunner(load_model(mixformer, torch.float64)).logits(IDS))


def test_earlier_names_of_a_mixformer_are_understood(mixformer: Path, tmp_path: Path) -> None:
    patient = admit(mixformer)
    patient.weights = {key.replace(".mlp.fc1.", ".mlp.fc_in."): tensor for key, tensor in patient.weights.items()}
    old = discharge(patient, mixformer, tmp_path)
    opened = open_streamed(old, torch.float64)
    assert opened.problems == () == load_model(old, torch.float64).problems
    assert torch.equal(ModelRunner(opened).logits(IDS), ModelRunner(load_model(mixformer, torch.float64)).logits(IDS))


def test_at_most_one_layer_is_in_memory(reference: Path) -> None:
    runner = ModelRunner(open_streamed(reference, torch.float64, "eager"))
    held: list[int] = []
    for module in runner.model.modules():
        module.register_forward_pre_hook(
            lambda *_: held.append(sum(p.numel() for p in runner.model.parameters() if not p.is_meta))
        )
    runner.logits(IDS)
    assert 0 < max(held) <= largest_layer(reference)


def test_a_sound_candidate_passes_l2_by_the_same_number(
    judge: Callable[..., Verdict], mixformer: Path, reference: Path
) -> None:
    level = judge(mixformer, reference, levels=["L0", "L2"]).level("L2")
    assert level.status is Status.PASS and level.budget == 1e-10
    assert "do not fit into memory: run layer by layer" in level.detail
    assert level.number is not None and 0.0 < level.number < 1e-13


def wrong_eps(patient: Patient) -> None:
    patient.turn("eps", 1e-6)


def flipped_sign(patient: Patient) -> None:
    patient.part("1.up")[3, 5] *= -1


def rows_interleaved(patient: Patient) -> None:
    import random

    from golden.faults.mapping_faults import interleave

    interleave("q", "k")(patient, random.Random(0))


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        (wrong_eps, "layer 0, norm 1"),
        (flipped_sign, "layer 1, mlp"),
        (rows_interleaved, "layer 0, attention"),
    ],
)
def test_a_fault_fails_by_the_number_of_the_whole_models_and_at_its_layer(
    fault: Callable[[Patient], None],
    place: str,
    judge: Callable[..., Verdict],
    mixformer: Path,
    reference: Path,
    tmp_path: Path,
) -> None:
    patient = admit(mixformer)
    fault(patient)
    sick = discharge(patient, mixformer, tmp_path)
    whole = compare(sick, reference, levels=["L2"], dtype="float64")
    streamed = judge(sick, reference, levels=["L2"])
    assert streamed.verdict is whole.verdict is Status.FAIL
    assert streamed.level("L2").number == pytest.approx(whole.level("L2").number, rel=1e-12, abs=1e-12)
    assert streamed.first_divergence == whole.first_divergence
    assert streamed.first_divergence is not None and streamed.first_divergence.startswith(place)


def test_a_golden_file_stands_for_a_reference_that_is_too_large(
    judge: Callable[..., Verdict], mixformer: Path, reference: Path, tmp_path: Path
) -> None:
    golden = record(reference, tmp_path / "golden", dtypes=())
    assert judge(mixformer, golden=golden, levels=["L2"]).verdict is Status.PASS
    patient = admit(mixformer)
    flipped_sign(patient)
    sick = discharge(patient, mixformer, tmp_path / "sick")
    assert judge(sick, golden=golden, levels=["L2"]).verdict is Status.FAIL


def test_a_recorded_cast_is_put_on_the_reference_while_it_is_read(
    judge: Callable[..., Verdict], mixformer: Path, reference: Path, tmp_path: Path
) -> None:
    patient = admit(mixformer)
    patient.weights = {key: tensor.bfloat16() for key, tensor in patient.weights.items()}
    cast = discharge(patient, mixformer, tmp_path)
    steps = {"lossy_steps": [{"step": "cast", "dtype": "bfloat16"}]}
    (cast / "conversion.json").write_text(json.dumps(steps))
    whole = compare(cast, reference, levels=["L2"], dtype="float64")
    streamed = judge(cast, reference, levels=["L2"])
    assert streamed.verdict is Status.PASS
    assert streamed.level("L2").measures["distance"] == whole.level("L2").measures["distance"]
    (cast / "conversion.json").unlink()
    assert judge(cast, reference, levels=["L2"]).verdict is Status.FAIL


def test_levels_that_need_whole_models_are_unverified(
    judge: Callable[..., Verdict], mixformer: Path, reference: Path
) -> None:
    verdict = judge(mixformer, reference, levels=["L2", "L3", "L4"])
    assert [verdict.level(name).status for name in ("L2", "L3", "L4")] == ["PASS", "UNVERIFIED", "UNVERIFIED"]
    assert "need whole models" in verdict.level("L4").detail
    assert verdict.verdict is Status.UNVERIFIED


def test_not_even_one_layer_is_unverified_with_need_and_have(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "available_bytes", lambda: 1000)
    verdict = compare(reference, reference, levels=["L2"])
    assert verdict.verdict is Status.UNVERIFIED
    assert "even layer by layer, judging needs" in verdict.level("L2").detail


def lacking(patient: Patient) -> None:
    del patient.weights["layers.2.mlp.fc1.weight"]


def unknown(patient: Patient) -> None:
    patient.weights["layers.2.mlp.extra.weight"] = torch.ones(3)


def misshapen(patient: Patient) -> None:
    patient.weights["layers.2.ln_1.weight"] = torch.ones(47)


def not_finite(patient: Patient) -> None:
    patient.weights["layers.2.ln_1.weight"][3] = torch.inf


@pytest.mark.parametrize("change", [lacking, unknown, misshapen, not_finite])
def test_a_bad_file_fails_in_the_same_words(
    change: Callable[[Patient], None],
    judge: Callable[..., Verdict],
    mixformer: Path,
    reference: Path,
    tmp_path: Path,
) -> None:
    patient = admit(mixformer)
    change(patient)
    sick = discharge(patient, mixformer, tmp_path)
    whole, streamed = compare(sick, reference, levels=["L2"]), judge(sick, reference, levels=["L2"])
    assert streamed.verdict is whole.verdict is Status.FAIL
    assert whole.level("L2").detail and streamed.level("L2").detail.startswith(whole.level("L2").detail)


def test_a_reference_with_nan_cannot_serve(
    judge: Callable[..., Verdict], reference: Path, patient: Patient, tmp_path: Path
) -> None:
    patient.weights["model.norm.weight"][0] = float("nan")
    with pytest.raises(UnusableReferenceError, match=r"model\.norm\.weight: 1 of 48"):
        judge(reference, discharge(patient, reference, tmp_path), levels=["L2"])


def test_a_truncated_file_is_refused_before_anything_runs(reference: Path, tmp_path: Path) -> None:
    folder = discharge(admit(reference), reference, tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(FolderError, match="it is truncated"):
        open_streamed(folder, torch.float64)


def test_weights_that_loading_splits_are_not_streamed(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["mlp.up_proj.weight", "mlp.other.weight"]
    splits = WeightConverter("mlp.up_proj.weight", names, operations=[Chunk(dim=0)])
    monkeypatch.setattr(conversion_mapping, "get_model_conversion_mapping", lambda model: [splits])
    with pytest.raises(UnverifiableError, match="transformers splits model") as caught:
        open_streamed(reference, torch.float64)
    assert caught.value.exit_code == 5


def test_an_expert_too_few_is_named_as_for_whole_models(tmp_path: Path) -> None:
    source = make_hot("mixtral", tmp_path / "source")
    patient = admit(source)
    experts = {int(key.split(".experts.")[1].split(".")[0]) for key in patient.weights if ".experts." in key}
    for key in [key for key in patient.weights if f"layers.1.block_sparse_moe.experts.{max(experts)}." in key]:
        del patient.weights[key]
    folder = discharge(patient, source, tmp_path / "less")
    found = open_streamed(folder, torch.float64).problems
    assert found and found == load_model(folder, torch.float64).problems


def test_a_model_that_reaches_for_absent_weights_is_no_verdict(
    reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = ModelRunner(open_streamed(reference, torch.float64, "eager"))
    norm = runner.model.model.norm
    monkeypatch.setattr(norm, "forward", lambda x: x * runner.model.lm_head.weight.sum())
    with pytest.raises(UnverifiableError, match="cannot be run layer by layer"):
        runner.logits(IDS)


def test_stored_rotary_tables_are_no_weights(reference: Path, tmp_path: Path) -> None:
    folder = discharge(admit(reference), reference, tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(10)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert open_streamed(folder, torch.float64).problems == () == load_model(folder, torch.float64).problems


def test_the_largest_layer_is_found_in_headers(reference: Path, mixformer: Path) -> None:
    with safe_open(reference / "model.safetensors", framework="pt") as file:
        sizes = {key: file.get_tensor(key).numel() for key in file.keys()}
    layer = sum(size for key, size in sizes.items() if ".layers.1." in key)
    assert largest_layer(reference) == largest_layer(mixformer) == layer


def test_layer_by_layer_is_the_last_resort() -> None:
    million = 10**6
    plans = [plan_run(10 * million, 10 * million, 0, have * million, layers=million) for have in (210, 130, 70, 20, 10)]
    assert [(plan.itemsize, plan.together, plan.streamed) for plan in plans] == [
        (8, True, False),
        (8, False, False),
        (4, False, False),
        (8, True, True),
        (4, True, True),
    ]
    assert all(plan.fits for plan in plans)
    assert not plan_run(10 * million, 10 * million, 0, 9 * million, layers=million).fits


PEAK = """
import re, sys
from pathlib import Path
import torch
from golden import case, compare
from golden.models.loading import load_model
torch.set_num_threads(1)
def peak():  # of this process: what getrusage says begins with the peak of its parent
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
source, have = Path(sys.argv[1]), int(sys.argv[2])
load_model(Path(sys.argv[3]), torch.float64)  # what loading itself needs, on a tiny model
before = peak()
case.available_bytes = lambda: have
level = compare(source, source, levels=["L2"]).level("L2")
print(level.status, "layer by layer" in level.detail, peak() - before)
"""


def test_the_peak_of_24_layers_is_far_below_the_whole_model(reference: Path, tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 24, "hidden_size": 320, "intermediate_size": 960, "vocab_size": 67, "head_dim": 80}
    source = make_hot("llama", tmp_path, **sizes)
    nbytes = (source / "model.safetensors").stat().st_size
    peaks = {}
    for have in (10**6 * 2**10, nbytes // 2):
        words = [sys.executable, "-c", PEAK, str(source), str(have), str(reference)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        status, streamed, kilobytes = done.stdout.split()
        assert status == "PASS"
        peaks[streamed == "True"] = int(kilobytes) * 1024
    assert peaks[False] > 2 * nbytes  # in float64, twice what is stored
    assert peaks[True] < nbytes


@pytest.mark.parametrize("in_weights", [True, False], ids=["weights", "config"])
def test_the_cause_is_named_and_proved_layer_by_layer_too(
    in_weights: bool, judge: Callable[..., Verdict], mixformer: Path, reference: Path, tmp_path: Path
) -> None:
    patient = admit(mixformer)
    if in_weights:
        patient.swap("0.o", "2.o")
    else:
        patient.turn("theta", 5e5)
    verdict = judge(discharge(patient, mixformer, tmp_path), reference, levels=["L2"])
    assert "run layer by layer" in verdict.level("L2").detail
    claim = "o of layers 0 and 2 are exchanged" if in_weights else "theta is 500000.0 and should be 10000.0"
    assert str(verdict.hypothesis).startswith(f"{claim}: applying")
