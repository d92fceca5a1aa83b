"""Trained models in the files that they are published in: the weights that others make of them, bit for bit."""

import hashlib
import json
import resource

import pytest
import torch
from safetensors.torch import load_file, save_file

from converters import convert
from converters.conversion import Request
from converters.plan.options import Options
from golden import compare, verdict_lines

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]


def test_stories260k_out_of_its_bin_is_the_folder_that_others_made(stories260k, tmp_path):
    native = stories260k / "stories260K.bin"
    llama = convert(native, "llama", to="llama", output=tmp_path / "llama").output
    found, expected = load_file(llama / "model.safetensors"), load_file(stories260k / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key].view(torch.int32), tensor.view(torch.int32)) for key, tensor in expected.items())


def test_stories260k_returns_byte_for_byte(stories260k, tmp_path):
    native = stories260k / "stories260K.bin"
    ours = convert(native, output=tmp_path / "ours").output
    verdict = compare(ours, native)
    print("\n".join(["", *verdict_lines(verdict)]))
    assert verdict.verdict == "PASS" and verdict.level("L2").number <= 1e-10
    back = convert(ours, to="llama2c", output=tmp_path / "back", request=Request(native=True)).output
    assert (back / "model.bin").read_bytes() == native.read_bytes()


def test_smollm2_dequantised_has_the_weights_that_transformers_makes(smollm2_gguf, smollm2_weights, tmp_path):
    request = Request(Options(dequantize=True))
    llama = convert(smollm2_gguf, "llama", to="llama", output=tmp_path / "llama", request=request).output
    save_file(load_file(llama / "model.safetensors"), tmp_path / "again.safetensors", metadata={"format": "pt"})
    with (tmp_path / "again.safetensors").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == smollm2_weights
    (step,) = json.loads((llama / "conversion.json").read_text())["lossy_steps"]
    assert step["types"] == {"Q4_1": 210, "Q8_0": 1}


def test_smollm2_dequantised_is_the_function_that_transformers_runs(smollm2_gguf, tmp_path):
    request = Request(Options(dequantize=True))
    ours = convert(smollm2_gguf, "llama", output=tmp_path / "ours", request=request).output
    verdict = compare(ours, smollm2_gguf, levels=["L0", "L1", "L2"])
    print("\n".join(["", *verdict_lines(verdict)]))
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    assert verdict.verdict == "PASS" and verdict.level("L2").number <= 1e-10
