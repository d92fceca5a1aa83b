"""Hostile and broken files over every command that reads: each ends in its exit code, none hangs and none is a crash.

3: it cannot be read as a checkpoint. 5: it reads well, and its model cannot be built or run. A sound model is 0.
"""

import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.main import _told, app
from converters.sample import write_sample

spec = importlib.util.spec_from_file_location("hostile_files", Path(__file__).with_name("hostile_files.py"))
hostile = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hostile)

NESTED = "[" * hostile.DEEP
DIGITS = '{"model_type": "llama", "hidden_size": ' + "9" * 5000 + "}"
BODY, BIN = "config.json", "pytorch_model.bin"
COMMANDS: dict[str, Callable[[str, str, str], list[str]]] = {
    "convert": lambda bad, good, out: ["llama", bad, "--to", "mixformer", "-o", out, "--no-parity"],
    "plan": lambda bad, good, out: ["plan", "llama", bad, "--to", "mixformer"],
    "inspect": lambda bad, good, out: ["inspect", bad],
    "diff": lambda bad, good, out: ["diff", bad, good],
    "diff, as the second": lambda bad, good, out: ["diff", good, bad],
    "parity": lambda bad, good, out: ["parity", bad, "--reference", good, "--levels", "L2"],
    "parity, as the reference": lambda bad, good, out: ["parity", good, "--reference", bad, "--levels", "L2"],
    "record": lambda bad, good, out: ["golden", "record", bad, "-o", f"{out}.safetensors"],
}
JUDGING = ("parity", "parity, as the reference", "record")

UNREADABLE = {
    "config nested": hostile.text(BODY, NESTED),
    "config of nested objects": hostile.text(BODY, '{"a":' * hostile.DEEP),
    "config of 5,000 digits": hostile.text(BODY, DIGITS),
    "config that is no UTF-8": hostile.text(BODY, b'{"model_type": "\xff"}'),
    "config of a hole": hostile.sparse(BODY, b"{", 90_000_000),
    "config of a million lists": hostile.text(BODY, '{"a": [' + "[]," * 1_000_000 + "1]}"),
    "config without an end": hostile.device(BODY),
    "config as a pipe": hostile.pipe(BODY),
    "config as a folder": hostile.folder_named(BODY),
    "weights without an end": hostile.device(hostile.WEIGHTS),
    "weights as a pipe": hostile.pipe(hostile.WEIGHTS),
    "weights as a folder": hostile.folder_named(hostile.WEIGHTS),
    "a header of 3 GB": hostile.sparse(hostile.WEIGHTS, (3_000_000_000).to_bytes(8, "little") + b"{", 3_100_000_000),
    "a header of a hole": hostile.sparse(hostile.WEIGHTS, (99_000_000).to_bytes(8, "little") + b"{", 99_000_008),
    "a header nested": hostile.header(b'{"a":' * hostile.DEEP),
    "a header of 5,000 digits": hostile.header(
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,0]}}'
    ),
    "a header with a long key": hostile.header(
        b'{"' + b"a" * 2_000_000 + b'":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    ),
    "headers without shape": hostile.without_shapes,
    "an index nested": hostile.in_shards(hostile.text(hostile.INDEX, NESTED)),
    "an index as a pipe": hostile.in_shards(hostile.pipe(hostile.INDEX)),
    "an index without an end": hostile.in_shards(hostile.device(hostile.INDEX)),
    "a shard as a pipe": hostile.in_shards(hostile.pipe("model-00001-of-00001.safetensors")),
    "generation settings as a pipe": hostile.pipe("generation_config.json"),
    "a tokenizer as a pipe": hostile.pipe("tokenizer.json"),
    "a tokenizer without an end": hostile.device("tokenizer.json"),
    "a record nested": hostile.text("conversion.json", NESTED),
    "a record as a pipe": hostile.pipe("conversion.json"),
    "a record without an end": hostile.device("conversion.json"),
    "a record of steps that are none": hostile.text(
        "conversion.json", '{"lossy_steps": [{"step": "cast", "dtype": []}]}'
    ),
    "a record of a device": hostile.text("conversion.json", '{"files": {"/dev/zero": null}}'),
}
"""Name -> what is done to a sound folder; 3 in every command."""

TORCH = {
    "byteorder of 100 MB": hostile.bomb(100),
    "a pickle of 100 MB": hostile.bomb(100, "data.pkl"),
    "a version of 100 MB": hostile.as_torch(
        ("version", bytes(1 << 20), 100), ("data.pkl", hostile.EMPTY, 1), compressed=("version",)
    ),
    **{f"{name}, in a zip": hostile.as_torch(("data.pkl", data, 1)) for name, data in hostile.PICKLES.items()},
    **hostile.PICKLES,
}
"""Name -> content of a pytorch_model.bin; 3 in every command."""

CODE = {
    "attention kernels of a hub": {"attn_implementation": "somebody/kernels"},
    "the same, as transformers keeps it": {"_attn_implementation": "somebody/kernels"},
    "quantised weights": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
}
"""Name -> fields of config.json that would run other code; 3 where the model is wanted."""

UNBUILDABLE = {
    "tuples instead of outputs": {"return_dict": False},
    "a padding token beyond the vocabulary": {"pad_token_id": 259},
    "10^9 heads": {"num_attention_heads": 10**9},
    "heads of 10^9": {"head_dim": 10**9},
    "10^9 layers": {"num_hidden_layers": 10**9},
    "a vocabulary of 10^12": {"vocab_size": 10**12},
    "heads that do not divide": {"num_attention_heads": 7, "num_key_value_heads": 7, "head_dim": None},
    "a vocabulary of text": {"vocab_size": "x"},
    "an unknown activation": {"hidden_act": "frobnicate"},
    "a model of no known type": {"model_type": "frobnicate"},
}
"""Name -> fields of config.json; 5 where the model is wanted."""


class StillRunning(BaseException):
    """A command took so long that it must be waiting for something."""


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """A pipe that is opened waits for ever: end that, and by no error that a command could take for its own."""

    def stop(*_: object) -> None:
        raise StillRunning

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model, never written to."""
    return write_sample(tmp_path_factory.mktemp("good") / "good")


@pytest.fixture
def bad(good: Path, tmp_path: Path) -> Path:
    """A copy of it, to be broken."""
    return Path(shutil.copytree(good, tmp_path / "bad"))


def code(*words: object) -> int:
    """The exit code of a command; 1 is a crash."""
    try:
        return int(app([str(word) for word in words], standalone_mode=False) or 0)
    except Exception as failure:
        return _told(failure, debug=False)


def codes(bad: Path, good: Path, commands: object = COMMANDS) -> dict[str, int]:
    return {name: code(*COMMANDS[name](str(bad), str(good), str(bad.parent / "out"))) for name in commands}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_3_in_every_command(case: str, bad: Path, good: Path) -> None:
    UNREADABLE[case](bad)
    assert codes(bad, good) == dict.fromkeys(COMMANDS, 3)
    assert not (bad.parent / "out").exists()


@pytest.mark.parametrize("case", TORCH)
def test_a_torch_file_that_claims_gigabytes_or_brings_code_is_3_in_every_command(
    case: str, bad: Path, good: Path
) -> None:
    (bad / hostile.WEIGHTS).unlink()
    (bad / BIN).write_bytes(TORCH[case])
    assert codes(bad, good) == dict.fromkeys(COMMANDS, 3)


@pytest.mark.parametrize("case", hostile.GGUFS)
def test_a_gguf_file_that_claims_more_than_it_has_is_3_in_every_command(case: str, good: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(hostile.GGUFS[case])
    assert codes(tmp_path / "bad.gguf", good) == dict.fromkeys(COMMANDS, 3)


def test_a_pipe_or_a_device_as_the_model_is_3_in_every_command(good: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        found = {name: code(*make(str(path), str(good), str(tmp_path / "out"))) for name, make in COMMANDS.items()}
        assert found == dict.fromkeys(COMMANDS, 3)


@pytest.mark.parametrize("case", UNBUILDABLE)
def test_what_reads_well_and_makes_no_model_is_5_with_its_reason(
    case: str, bad: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile.config(**UNBUILDABLE[case])(bad)
    assert codes(bad, good, JUDGING) == dict.fromkeys(JUDGING, 5)
    told = capsys.readouterr().err
    assert "unexpected" not in told and str(bad) in told
    assert codes(bad, good, ("convert", "plan")) in ({"convert": 3, "plan": 3}, {"convert": 0, "plan": 0})


@pytest.mark.parametrize("case", CODE)
def test_code_that_a_config_asks_for_is_3(case: str, bad: Path, good: Path) -> None:
    hostile.config(**CODE[case])(bad)
    assert codes(bad, good, JUDGING) == dict.fromkeys(JUDGING, 3)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")]
)
def test_out_of_memory_is_5_and_says_so(
    error: Exception, bad: Path, good: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import LlamaForCausalLM

    def forward(self: object, *_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)
    assert codes(bad, good, JUDGING) == dict.fromkeys(JUDGING, 5)
    assert capsys.readouterr().err.count("memory ran out") == len(JUDGING)


def test_a_sound_model_is_0_in_every_command(bad: Path, good: Path) -> None:
    """The control: the table does not refuse everything."""
    assert codes(bad, good) == dict.fromkeys(COMMANDS, 0)


def test_a_small_vocabulary_is_judged(tmp_path: Path) -> None:
    from golden.models.hot import make_hot

    small = make_hot("llama", tmp_path / "small", vocab_size=7, bos_token_id=0, eos_token_id=1)
    assert code("llama", small, "--to", "mixformer", "-o", tmp_path / "ours") == 0


@pytest.fixture(scope="module")
def golden(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("golden") / "good.safetensors"
    assert code("golden", "record", good, "-o", path, "--form", "full") == 0
    return path


def redone(golden: Path, target: Path, change: Callable[[dict], object]) -> Path:
    """The golden file with another header, whose digest is right: anybody can compute it."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    from golden.evidence.golden_file import content_digest

    with safe_open(golden, framework="pt") as file:
        header, tensors = json.loads(file.metadata()["mixformer-golden"]), load_file(golden)
    change(header)
    header["digest"] = content_digest(header, tensors, tensors.__getitem__)
    save_file(tensors, target, {"mixformer-golden": json.dumps(header, sort_keys=True)})
    return target


GOLDENS: dict[str, Callable[[dict], object]] = {
    "a hash of a device": lambda header: header["hashes"].update({"../../../../../../dev/zero": "0"}),
    "prompts that are none": lambda header: header.update(prompts=3),
    "no calibrations": lambda header: header.pop("calibrations"),
    "a floor of text": lambda header: header["calibrations"]["bfloat16"].update(rms="small"),
    "a probe of no module": lambda header: header["calibrations"]["bfloat16"]["probes"][0].update(role="x"),
    "a prompt that was not recorded": lambda header: header["calibrations"]["bfloat16"].update(prompts=[99]),
    "a vocabulary of 7": lambda header: header.update(vocab=7),
    "a seed below zero": lambda header: header.update(seed=-1),
    "a deviation of text": lambda header: header.update(std="1"),
    "a config that is a list": lambda header: header.update(config=[]),
    "rows of no table": lambda header: header["table_sizes"].update({"token embeddings": 10**6}),
    "another form": lambda header: header.update(form="compact"),
    "a sketch of negative size": lambda header: header.update(form="compact", sketch={"top": -1}),
}


@pytest.mark.parametrize("case", GOLDENS)
def test_a_golden_file_with_a_hostile_header_is_3(case: str, golden: Path, good: Path, tmp_path: Path) -> None:
    path = redone(golden, tmp_path / "golden.safetensors", GOLDENS[case])
    assert code("golden", "show", path) == 3
    assert code("parity", good, "--golden", path, "--levels", "L2") == 3


def test_a_golden_file_that_is_none_is_3(good: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nested").write_bytes(len(NESTED).to_bytes(8, "little") + NESTED.encode())
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path / "nested"):
        assert code("golden", "show", path) == 3
        assert code("parity", good, "--golden", path) == 3


def test_a_golden_file_with_a_sound_header_is_0(golden: Path, good: Path, tmp_path: Path) -> None:
    path = redone(golden, tmp_path / "golden.safetensors", lambda header: None)
    assert code("golden", "show", path) == 0
    assert code("parity", good, "--golden", path, "--levels", "L2") == 0


def test_golden_files_and_reports_have_their_mode_whatever_the_umask(good: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert code("golden", "record", good, "-o", tmp_path / "new" / "golden.safetensors") == 0
        words = ("--levels", "L0", "--report", tmp_path / "report.json")
        assert code("parity", good, "--reference", good, *words) == 0
    finally:
        os.umask(before)
    files = (tmp_path / "new" / "golden.safetensors", tmp_path / "report.json")
    assert [path.stat().st_mode & 0o777 for path in files] == [0o644, 0o644]
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o755


def test_there_are_sixty_cases_and_more() -> None:
    count = (len(UNREADABLE) + len(TORCH) + len(hostile.GGUFS) + 2) * len(COMMANDS) + len(UNBUILDABLE) * len(JUDGING)
    assert count + 2 * len(GOLDENS) >= 300
