"""A tied MixFormer kept by torch.save holds its head a second time: one copy is used, and it must be a copy."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from converters import convert
from converters.alignment import equal_folders
from converters.errors import CoverageRefused
from golden import compare

HEAD, EMBEDDING = "layers.4.linear.weight", "layers.0.wte.weight"


def stored(ours: Path, place: Path, form: str, head: torch.Tensor | None = None) -> Path:
    """The folder with both tensors, as a state_dict holds them; `head`: instead of the embedding."""
    tensors = load_file(ours / "model.safetensors")
    tensors[HEAD] = tensors[EMBEDDING] if head is None else head
    shutil.copytree(ours, place, ignore=shutil.ignore_patterns("model.safetensors", "conversion.json"))
    if form == "bin":
        torch.save(tensors, place / "pytorch_model.bin")
    else:
        one = {key: value.clone() for key, value in tensors.items()}
        save_file(one, place / "model.safetensors", metadata={"format": "pt"})
    return place


@pytest.mark.parametrize("form", ["bin", "safetensors"])
def test_a_copy_of_the_embedding_is_left_out(form, llama, tmp_path):
    source = llama("tied")
    ours = convert(source, output=tmp_path / "ours").output
    back = convert(stored(ours, tmp_path / "kept", form), to="llama", output=tmp_path / "back").output
    plain = convert(ours, to="llama", output=tmp_path / "plain").output
    assert equal_folders(plain, back) == []
    assert "lm_head.weight" not in load_file(back / "model.safetensors")
    assert compare(back, source, levels=["L0", "L1", "L2"]).verdict == "PASS"


@pytest.mark.parametrize("form", ["bin", "safetensors"])
def test_a_head_that_is_no_copy_is_the_head(form, llama, tmp_path):
    """As transformers runs such a checkpoint, for ours as for a LLaMA."""
    ours = convert(llama("tied"), output=tmp_path / "ours").output
    torch.manual_seed(3)
    head = torch.randn_like(load_file(ours / "model.safetensors")[EMBEDDING])
    kept = stored(ours, tmp_path / "kept", form, head)
    report = convert(kept, to="llama", output=tmp_path / "back")
    assert any("differs from the embedding" in note for note in report.notes)
    assert torch.equal(load_file(report.output / "model.safetensors")["lm_head.weight"], head)
    assert json.loads((report.output / "config.json").read_text())["tie_word_embeddings"] is False
    if form == "safetensors":
        assert compare(report.output, kept, levels=["L2"]).level("L2").status == "PASS"
        wrong = convert(ours, to="llama", output=tmp_path / "wrong").output
        assert compare(wrong, kept, levels=["L2"]).level("L2").status == "FAIL"


def test_one_wrong_number_in_the_copy_is_seen(llama, tmp_path):
    ours = convert(llama("tied"), output=tmp_path / "ours").output
    head = load_file(ours / "model.safetensors")[EMBEDDING].clone()
    head[17, 3] += 1e-3
    report = convert(stored(ours, tmp_path / "kept", "bin", head), to="llama", output=tmp_path / "back")
    assert torch.equal(load_file(report.output / "model.safetensors")["lm_head.weight"], head)


def test_an_untied_model_without_a_head_is_still_refused(llama, tmp_path):
    ours = convert(llama("gqa"), output=tmp_path / "ours").output
    tensors = load_file(ours / "model.safetensors")
    del tensors[HEAD]
    save_file(tensors, ours / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CoverageRefused, match=r"linear\.weight"):
        convert(ours, to="llama", output=tmp_path / "back")
