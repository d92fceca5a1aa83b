"""Folders that cannot be judged end in an error that says which file and why, never in a PASS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from golden import GoldenError, Status, compare, record
from golden.errors import (
    CannotBuildError,
    FolderError,
    MissingDeviceError,
    MissingReferenceError,
    NondeterministicReferenceError,
    UnknownLevelError,
    UnusableReferenceError,
)
from golden.faults.model_copy import Patient, admit, discharge
from golden.models.running import ModelRunner


def test_no_reference_and_no_golden_leaves_nothing_to_compare_with(reference: Path) -> None:
    with pytest.raises(MissingReferenceError, match="nothing to compare with"):
        compare(reference)


@pytest.mark.parametrize(("levels", "dtype"), [(["L9"], None), (None, "float8")])
def test_unknown_names_are_usage_errors(reference: Path, levels: list[str] | None, dtype: str | None) -> None:
    with pytest.raises(UnknownLevelError, match=r"L9|float8") as caught:
        compare(reference, reference, levels=levels, dtype=dtype)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", b"{", "config.json cannot be used: its JSON cannot be read"),
        ("config.json", b"[]", "config.json cannot be used: its JSON is not an object"),
        ("config.json", b"{}", "cannot be built"),
        ("config.json", None, "has no config.json"),
        ("model.safetensors", None, "neither model.safetensors nor"),
        ("model.safetensors", b"", "it has 0 bytes, a header needs"),
        ("model.safetensors", b"\xff" * 400, "is not a valid safetensors file"),
    ],
)
def test_broken_files_are_refused_by_name(
    file: str, content: bytes | None, words: str, reference: Path, tmp_path: Path
) -> None:
    folder = discharge(admit(reference), reference, tmp_path)
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(FolderError, match=words) as caught:
        compare(folder, reference, levels=["L2"])
    assert caught.value.exit_code == 3


def test_a_truncated_weight_file_is_refused(reference: Path, tmp_path: Path) -> None:
    folder = discharge(admit(reference), reference, tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FolderError):
        compare(folder, reference, levels=["L2"])


def test_a_file_instead_of_a_folder_is_refused(reference: Path) -> None:
    with pytest.raises(FolderError, match="not a folder"):
        compare(reference / "model.safetensors", reference)


def test_a_reference_that_lacks_a_tensor_cannot_serve(patient: Patient, reference: Path, tmp_path: Path) -> None:
    del patient.weights["model.norm.weight"]
    with pytest.raises(UnusableReferenceError, match=r"model\.norm\.weight"):
        compare(reference, discharge(patient, reference, tmp_path), levels=["L2"])


def test_a_reference_with_nan_cannot_serve_and_the_key_is_named(
    patient: Patient, reference: Path, tmp_path: Path
) -> None:
    patient.weights["model.norm.weight"][0] = float("nan")
    broken = discharge(patient, reference, tmp_path)
    with pytest.raises(UnusableReferenceError, match=r"model\.norm\.weight: 1 of 48"):
        compare(broken, broken, levels=["L2"])


def test_nan_in_a_row_that_few_prompts_read_is_as_bad(patient: Patient, reference: Path, tmp_path: Path) -> None:
    patient.weights["model.embed_tokens.weight"][0, 0] = float("nan")
    broken = discharge(patient, reference, tmp_path)
    with pytest.raises(UnusableReferenceError, match=r"model\.embed_tokens\.weight: 1 of"):
        compare(broken, broken, levels=["L2"])
    with pytest.raises(UnusableReferenceError, match=r"model\.embed_tokens\.weight: 1 of"):
        record(broken, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_a_reference_that_answers_in_two_ways_cannot_serve(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ModelRunner.logits
    monkeypatch.setattr(ModelRunner, "logits", lambda self, ids: honest(self, ids) + torch.rand(()))
    with pytest.raises(NondeterministicReferenceError, match="two runs on the prompt") as caught:
        compare(reference, reference, levels=["L2"])
    assert caught.value.exit_code == 5


def test_flash_attention_without_a_gpu_is_no_verdict(reference: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(MissingDeviceError) as caught:
        compare(reference, reference, levels=["L3"], attn="flash")
    assert caught.value.exit_code == 5


def test_every_error_of_the_package_is_a_golden_error() -> None:
    import golden.errors as errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert all(issubclass(kind, GoldenError) for kind in kinds) and len(kinds) > 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000 and width 48"),
        ({"num_hidden_layers": 100}, "num_hidden_layers 100 and width 48"),
        ({"vocab_size": 10**12}, "vocab_size 1000000000000 and width 48"),
        ({"num_attention_heads": 10**9}, "not a multiple of the number of attention heads"),
        ({"head_dim": 10**9}, "describes a model of .* GiB are available"),
        ({"pad_token_id": 10**6}, "Padding_idx must be within num_embeddings"),
    ],
)
def test_a_config_that_the_files_cannot_hold_is_refused_before_memory_is_asked_for(
    change: dict[str, object], words: str, patient: Patient, reference: Path, tmp_path: Path
) -> None:
    patient.config |= change
    with pytest.raises(CannotBuildError, match=words) as caught:
        compare(discharge(patient, reference, tmp_path), reference, levels=["L2"])
    assert caught.value.exit_code == 5


def test_quantised_weights_are_refused(patient: Patient, reference: Path, tmp_path: Path) -> None:
    patient.config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    with pytest.raises(FolderError, match="dequantise"):
        compare(discharge(patient, reference, tmp_path), reference, levels=["L2"])


def test_an_index_that_leaves_its_folder_is_refused(reference: Path, tmp_path: Path) -> None:
    folder = discharge(admit(reference), reference, tmp_path)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"lm_head.weight": str(reference / "model.safetensors")}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FolderError, match="expected the name of"):
        compare(folder, reference, levels=["L2"])


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_no_floating_point_numbers_fail_by_their_key(
    dtype: torch.dtype, patient: Patient, reference: Path, tmp_path: Path
) -> None:
    patient.weights["model.norm.weight"] = torch.ones(48)
    plain = discharge(patient, reference, tmp_path / "plain")
    patient.weights["model.norm.weight"] = torch.ones(48).to(dtype)
    odd = discharge(patient, reference, tmp_path / "odd")
    level = compare(odd, plain, levels=["L2"]).level("L2")
    assert level.status is Status.FAIL
    assert "model.norm.weight: the files hold" in level.detail
    with pytest.raises(UnusableReferenceError, match=r"model\.norm\.weight: the files hold"):
        compare(plain, odd, levels=["L2"])


def test_a_reference_of_equal_logits_cannot_serve(patient: Patient, reference: Path, tmp_path: Path) -> None:
    patient.weights["lm_head.weight"].zero_()
    blank = discharge(patient, reference, tmp_path)
    with pytest.raises(UnusableReferenceError, match="all logits of the reference are equal"):
        compare(blank, blank, levels=["L2"])


@pytest.mark.parametrize(("device", "error"), [("tpu9", UnknownLevelError), ("", UnknownLevelError)])
def test_a_device_that_does_not_exist_is_a_usage_error(device: str, error: type[GoldenError], reference: Path) -> None:
    with pytest.raises(error, match="not known to torch"):
        compare(reference, reference, levels=["L2"], device=device)


def test_a_gpu_that_is_not_here_is_no_verdict(reference: Path) -> None:
    with pytest.raises(MissingDeviceError, match="torch sees no GPU of that name") as caught:
        compare(reference, reference, levels=["L2"], device="cuda:99")
    assert caught.value.exit_code == 5
