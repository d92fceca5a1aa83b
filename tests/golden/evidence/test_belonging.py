"""Whether a golden file still belongs to a reference: it does, it does not, or hashes cannot tell."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from cli.main import app
from converters.sample import write_sample
from golden import belongs_to, record
from golden.errors import FolderError, GoldenFileError


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a reference and the golden file that was recorded from it."""
    folder = tmp_path_factory.mktemp("belonging")
    record(write_sample(folder / "reference"), folder / "a.golden", dtypes=())
    return folder


@pytest.fixture
def place(recorded: Path, tmp_path: Path) -> Path:
    shutil.copytree(recorded, tmp_path / "copy")
    return tmp_path / "copy"


def answer(place: Path) -> tuple[bool | None, str]:
    found = belongs_to(place / "a.golden", place / "reference")
    return found.belongs, "; ".join((*found.reasons, *found.notes))


def test_an_untouched_reference(place: Path) -> None:
    assert answer(place) == (True, "")


def test_a_config_that_is_written_otherwise_says_the_same(place: Path) -> None:
    config = place / "reference" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()), indent=7))
    assert answer(place) == (True, "config.json is written otherwise and says the same")


def test_a_config_that_says_something_else(place: Path) -> None:
    config = place / "reference" / "config.json"
    config.write_text(config.read_text().replace("1e-05", "1e-06"))
    assert answer(place) == (False, "config.json is not the file that was recorded: its sha256 differs")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_one_bit_of_weights_or_tokenizer(name: str, place: Path) -> None:
    file = place / "reference" / name
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    assert answer(place) == (False, f"{name} is not the file that was recorded: its sha256 differs")


def test_a_tokenizer_that_is_gone_or_new(place: Path) -> None:
    (place / "reference" / "tokenizer.json").rename(place / "reference" / "vocab.json")
    belongs, why = answer(place)
    assert belongs is False
    assert "tokenizer.json was recorded and is gone" in why and "vocab.json was not there" in why


def test_weights_in_other_files_cannot_be_told(place: Path) -> None:
    reshard(place / "reference")
    belongs, why = answer(place)
    assert belongs is None and "the weights lie in other files than those that were recorded" in why
    config = place / "reference" / "config.json"
    config.write_text(config.read_text().replace("1e-05", "1e-06"))
    assert answer(place)[0] is False  # whatever the weights are


def reshard(folder: Path) -> None:
    """The same weights in two files."""
    tensors = list(load_file(folder / "model.safetensors").items())
    (folder / "model.safetensors").unlink()
    names = {}
    for k in (0, 1):
        part, file = dict(tensors[k::2]), f"model-0000{k + 1}-of-00002.safetensors"
        save_file(part, folder / file, {"format": "pt"})
        names |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def test_what_cannot_be_read_is_an_error_and_no_answer(place: Path) -> None:
    with pytest.raises(GoldenFileError):
        belongs_to(place / "reference" / "model.safetensors", place / "reference")
    (place / "reference" / "model.safetensors").unlink()
    with pytest.raises(FolderError):
        belongs_to(place / "a.golden", place / "reference")


@pytest.mark.parametrize(("change", "code"), [("none", 0), ("config", 4), ("shards", 5)])
def test_the_command_ends_with_0_4_or_5(change: str, code: int, place: Path) -> None:
    from typer.testing import CliRunner

    config = place / "reference" / "config.json"
    if change == "config":
        config.write_text(config.read_text().replace("1e-05", "1e-06"))
    if change == "shards":
        reshard(place / "reference")
    words = ["golden", "check", str(place / "a.golden"), str(place / "reference")]
    text, made = (CliRunner().invoke(app, [*words, *more]) for more in ((), ("--json",)))
    assert (text.exit_code, made.exit_code) == (code, code)
    assert json.loads(made.output)["belongs"] is {0: True, 4: False, 5: None}[code]
    assert ("run both to know: convert parity" in text.output) == (code == 5)


def test_torch_is_not_needed(place: Path) -> None:
    code = "import sys; from golden import belongs_to; belongs_to(*sys.argv[1:]); print('torch' in sys.modules)"
    words = [sys.executable, "-c", code, str(place / "a.golden"), str(place / "reference")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "False\n"
