"""What a hostile file costs: at most 64 MiB and two seconds more than a sound tiny model costs `inspect`.

Judging reads headers, names and configs before it imports torch, so its bound is that of `inspect`, too.
"""

import importlib.util
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from converters.checkpoint.safetensors_header import MOST_TENSORS
from converters.sample import write_sample

pytestmark = pytest.mark.slow
spec = importlib.util.spec_from_file_location("hostile_files", Path(__file__).with_name("hostile_files.py"))
hostile = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hostile)

MAIN = "from cli.start import main; main()"
MEMORY, SECONDS = 64 << 10, 2.0  # KiB, processor time
COMMANDS = ("convert", "plan", "inspect", "diff", "parity", "record")


LAUNCHER = """
import json, os, sys
actions = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
_, status, used = os.wait4(os.posix_spawn(sys.executable, json.loads(sys.argv[1]), os.environ, file_actions=actions), 0)
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_maxrss, used.ru_utime + used.ru_stime]))
"""
"""A process counts the memory of the one that it came from as its own: so a small one starts what is measured."""


def measured(*words: object) -> tuple[int, int, float]:
    """(exit code, peak memory in KiB, processor time in seconds) of Python with some arguments."""
    command = [sys.executable, "-c", LAUNCHER, json.dumps([sys.executable, *map(str, words)])]
    code, memory, seconds = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return code, memory, seconds


def cost(*words: object) -> tuple[int, int, float]:
    """The same of a command."""
    return measured("-c", MAIN, *words)


def words(command: str, bad: Path, good: Path) -> list[object]:
    out = bad.parent / "out"
    return {
        "convert": ["llama", bad, "--to", "mixformer", "-o", out],
        "plan": ["plan", "llama", bad, "--to", "mixformer"],
        "inspect": ["inspect", bad],
        "diff": ["diff", good, bad],
        "parity": ["parity", bad, "--reference", good],
        "record": ["golden", "record", bad, "-o", bad.parent / "golden.safetensors"],
    }[command]


def torch_file(data: bytes) -> hostile.Break:
    def change(folder: Path) -> None:
        (folder / hostile.WEIGHTS).unlink()
        (folder / "pytorch_model.bin").write_bytes(data)

    return change


def many_tensors(count: int) -> bytes:
    """A header of tensors without elements."""
    entry = '"model.layers.{}.self_attn.q_proj.weight":{{"dtype":"F32","shape":[0,0],"data_offsets":[0,0]}}'
    return ("{" + ",".join(entry.format(k) for k in range(count)) + "}").encode()


def many_entries(count: int) -> bytes:
    return hostile.as_torch(*((f"data/{k}", b"", 1) for k in range(count)))


LISTS = b"\x80\x02" + b"]" * 1_000_000 + b"."
CASES = {
    "a byteorder of 1 GiB": lambda: torch_file(hostile.bomb(1024)),
    "a pickle of 1 GiB": lambda: torch_file(hostile.bomb(1024, "data.pkl")),
    "a memo of 4 GiB": lambda: torch_file(hostile.as_torch(("data.pkl", hostile.PICKLES["a memo of 4 GiB"], 1))),
    "a million lists": lambda: torch_file(hostile.as_torch(("data.pkl", LISTS, 1))),
    "a million lists before torch 1.6": lambda: torch_file(LISTS),
    "a zip of 60,000 entries": lambda: torch_file(many_entries(60_000)),
    "a header of 3 GB": lambda: hostile.sparse(
        hostile.WEIGHTS, (3_000_000_000).to_bytes(8, "little") + b"{", 3_100_000_000
    ),
    "a header of a hole": lambda: hostile.sparse(
        hostile.WEIGHTS, (99_000_000).to_bytes(8, "little") + b"{", 99_000_008
    ),
    "a header of very many tensors": lambda: hostile.header(many_tensors(2 * MOST_TENSORS)),
    "a header of one long value": lambda: hostile.header(b'{"a":[' + b"[]," * 10_000_000 + b"1]}"),
    "a config of lists": lambda: hostile.text("config.json", '{"a": [' + "[]," * 7_000_000 + "1]}"),
    "a config of long text": lambda: hostile.text("config.json", '{"a": "' + "é\U0001f600" * 3_000_000 + '"}'),
    "an index of lists": lambda: hostile.in_shards(
        hostile.text(hostile.INDEX, '{"weight_map": {"a": [' + "{}," * 7_000_000 + "1]}}")
    ),
    "a record of lists": lambda: hostile.text("conversion.json", '{"a": [' + "{}," * 7_000_000 + "1]}"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("good") / "good")


@pytest.fixture(scope="module")
def usual(good: Path) -> tuple[int, float]:
    """Memory and time of `inspect` on a sound model."""
    runs = [cost("inspect", good) for _ in range(3)]
    assert [code for code, _, _ in runs] == [0, 0, 0]
    return max(memory for _, memory, _ in runs), min(seconds for _, _, seconds in runs)


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_file_costs_little(case: str, good: Path, usual: tuple[int, float], tmp_path: Path) -> None:
    bad = Path(shutil.copytree(good, tmp_path / "bad"))
    CASES[case]()(bad)
    found = {command: cost(*words(command, bad, good)) for command in COMMANDS}
    print(case, {name: (run[0], run[1] - usual[0], round(run[2] - usual[1], 2)) for name, run in found.items()})
    assert {run[0] for run in found.values()} == {3}
    assert max(run[1] for run in found.values()) <= usual[0] + MEMORY
    assert max(run[2] for run in found.values()) <= usual[1] + SECONDS


@pytest.mark.parametrize(("file", "body"), [("strings", 2_000_000), ("tensors", 100_000)])
def test_a_gguf_file_of_very_many_parts_costs_little(
    file: str, body: int, good: Path, usual: tuple[int, float], tmp_path: Path
) -> None:
    strings = hostile.named("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, body) + struct.pack("<Q", 0) * body
    tensors = b"".join(hostile.named(f"t{k}") + struct.pack("<IQIQ", 1, 0, 0, 0) for k in range(body))
    data = hostile.gguf(1, strings) if file == "strings" else hostile.gguf(0, tensors, body)
    (tmp_path / "bad.gguf").write_bytes(data)
    code, memory, seconds = cost("inspect", tmp_path / "bad.gguf")
    print(file, memory - usual[0], seconds - usual[1])
    assert code == 3 and memory <= usual[0] + MEMORY and seconds <= usual[1] + SECONDS


def test_a_side_file_of_a_hole_is_copied_without_being_held(
    good: Path, usual: tuple[int, float], tmp_path: Path
) -> None:
    big = Path(shutil.copytree(good, tmp_path / "big"))
    hostile.sparse("tokenizer.model", b"", 300_000_000)(big)
    code, memory, _ = cost("llama", big, "--to", "mixformer", "-o", tmp_path / "out", "--no-parity")
    assert code == 0 and memory <= usual[0] + MEMORY


def test_the_measure_would_notice(usual: tuple[int, float]) -> None:
    """The control: importing torch costs more."""
    code, memory, _ = measured("-c", "import torch")
    assert code == 0 and memory > usual[0] + MEMORY
