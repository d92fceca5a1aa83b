"""Native files on the command line: opened, planned, converted, judged, written back; refused in a sentence."""

import json
import struct
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

CONVERT = [sys.executable, "-c", "from cli.main import main; main()"]
SIZES = (16, 24, 2, 4, 2, 37, 32)  # dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CONVERT, *map(str, words)], capture_output=True, text=True, cwd=cwd, check=False)


def elements() -> int:
    """Numbers in a file of version 1 with a tied head."""
    dim, hidden, layers, heads, kv, vocab, _ = SIZES
    return dim * (vocab + 1) + layers * (2 * dim + 2 * dim * dim + 2 * dim * kv * dim // heads + 3 * dim * hidden)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a llama2c file, converted to a MixFormer without judging."""
    folder = tmp_path_factory.mktemp("native")
    head = (struct.pack("<Ii7i", 0x616B3432, 1, *SIZES) + b"\1").ljust(256, b"\0")
    numbers = array("f", [((k * 7919) % 1009) / 1009 - 0.4 for k in range(elements())])
    (folder / "tiny.bin").write_bytes(head + numbers.tobytes())
    done = run("llama", "tiny.bin", "--to", "mixformer", "--no-parity", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_it_is_inspected_and_planned(place):
    content = json.loads(run("inspect", "tiny.bin", "--json", cwd=place).stdout)
    assert content["family"] == "llama2c" and content["parameters"] == elements()
    content = json.loads(run("plan", "llama", "tiny.bin", "--to", "llama", "--json", cwd=place).stdout)
    assert content["family"] == "llama2c" and content["proved"] is True


def test_it_is_written_back_and_equal(place):
    words = ("mixformer", "tiny-mixformer", "--to", "llama2c", "--format", "native", "-o", "back", "--no-parity")
    done = run(*words, "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    assert (place / "back" / "model.bin").read_bytes() == (place / "tiny.bin").read_bytes()
    assert run("diff", "tiny.bin", "back", cwd=place).returncode == 0
    assert run("diff", "tiny-mixformer", "tiny.bin", cwd=place).returncode == 0
    assert "up to date" in run(*words, cwd=place).stdout


def test_it_is_judged_by_the_transcription(place):
    done = run("parity", "tiny-mixformer", "--reference", "tiny.bin", "--levels", "L0,L1,L2", "--json", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["verdict"] == "PASS"


def test_a_wrong_weight_is_found(place, tmp_path):
    data = bytearray((place / "tiny.bin").read_bytes())
    data[-1] ^= 0x80
    (tmp_path / "other.bin").write_bytes(data)
    done = run("parity", place / "tiny-mixformer", "--reference", "other.bin", "--levels", "L1,L2", cwd=tmp_path)
    assert done.returncode == 4 and "FAIL" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["llama", "cut.bin", "--to", "mixformer"], 3, "by its header"),
        (["gpt2", "tiny.bin", "--to", "mixformer"], 2, "not gpt2"),
        (["llama", "text.bin", "--to", "mixformer"], 2, "not a file that can be read"),
        (["llama", "x.gguf", "--to", "mixformer"], 3, "valid GGUF"),
        (["llama", "tiny.bin", "--to", "mixformer", "--format", "native", "-o", "x"], 2, "--to llama2c"),
        (["llama", "tiny.bin", "--to", "mixformer", "--format", "zip", "-o", "x"], 2, "safetensors, native or gguf"),
        (["llama", "tiny.bin", "--to", "llama2c"], 2, "already"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_in_a_sentence(words, code, said, place, tmp_path):
    (tmp_path / "tiny.bin").write_bytes((place / "tiny.bin").read_bytes())
    (tmp_path / "cut.bin").write_bytes((place / "tiny.bin").read_bytes()[:-4])
    (tmp_path / "text.bin").write_text("nothing of the kind, and long enough to be read as a header")
    (tmp_path / "x.gguf").write_bytes(b"GGUF\3\0\0\0")
    done = run(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr


def test_dialects_are_listed_under_their_families(place):
    listed = json.loads(run("families", "--json", cwd=place).stdout)["families"]
    dialects = {f["name"]: f["dialect_of"] for f in listed if f.get("dialect_of")}
    assert dialects == {
        "gpt2-gguf": "gpt2",
        "nanogpt": "gpt2",
        "llama-gguf": "llama",
        "llama-litgpt": "llama",
        "llama-meta": "llama",
        "llama-torchtune": "llama",
        "llama2c": "llama",
        "mistral-torchtune": "mistral",
        "qwen2-torchtune": "qwen2",
        "ngpt-evintunador": "ngpt",
        "ngpt-joeli": "ngpt",
        "ngpt-lucidrains": "ngpt",
        "ngpt-modded-nanogpt": "ngpt",
        "ngpt-nvidia": "ngpt",
        "ngpt-olmo": "ngpt",
        "ngpt-tutorial": "ngpt",
    }
    words = ("llama2c", "tiny.bin", "--to", "mixformer", "-o", "by-its-form", "--no-parity")
    assert run(*words, cwd=place).returncode == 0
