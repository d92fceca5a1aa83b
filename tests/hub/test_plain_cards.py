"""Cards of folders that were only converted, and their metadata: equal to those of the Hub's classes, without them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run
from huggingface_hub import ModelCard, ModelCardData

from cli.cards import metadata
from cli.cards.metadata import LICENCE_KEYS, licence_in, yaml_of
from converters.card_marks import BEGIN, PICTURE
from converters.sample import write_sample
from converters.verdict_record import BESIDE

VALUES = [
    {
        "base_model": "org/name",
        "base_model_relation": "quantized",
        "library_name": "transformers",
        "tags": ["mixformer"],
    },
    {"library_name": "transformers", "tags": ["mixformer", "ngpt-tutorial"], "license": "apache-2.0"},
    {"license_link": "https://x.org/a_b", "license": "other", "license_name": "llama3.1", "tags": ["a"]},
    {"base_model": "0x1/1e3", "license": "no", "license_name": 'it\'s: "x" # y', "tags": ["yes", "null", "3.0"]},
    {"license": "- a", "license_link": "LICENSE", "license_name": "", "tags": ["a b", "~", "ä", "2001-01-01"]},
    {"license": "On", "license_name": "a:b", "license_link": "https://x.org/#y", "tags": ["_a", "Null", "a--b"]},
]
CARDS = [
    "---\nlicense: apache-2.0\n---\n",
    "---\nlicense: mit\nlicense_name: x\nlicense_link: https://x.org/LICENSE\ntags:\n- a\n---\n# Text\n",
    "---\r\nlicense: mit\r\ntags: [a]\r\n---\r\n",
    "---\nlicense: mit   \n---\n",
    "---\nlicense: mit # mine\n---\n",
    "---\nlicense: 'no'\n---\n",
    "---\nlicense: no\n---\n",
    "---\nlicense: apache\n  2.0\n---\n",
    "---\nlicense:\n- mit\n- gpl\n---\n",
    '---\n"license": mit\n---\n',
    "---\n{license: mit, tags: [a]}\n---\n",
    "---\nmodel_name: x\nother:\n  license: mit\n---\n",
    "---\ntags:\n- license\n- a\n---\n",
    "---\nlicense: 1.0\n---\n",
    "---\ntags: [a]\n---\n",
    "---\nlicense: [mit\n---\n",
    "# Text without metadata\nlicense: mit\n",
    "---\nlicense: mit\n",
]


@pytest.mark.parametrize("values", VALUES, ids=lambda values: next(iter(values.values())))
def test_metadata_are_written_as_the_card_classes_write_them(values: dict):
    assert yaml_of(values) == ModelCardData(**values).to_yaml()


def test_plain_metadata_need_no_card_classes(monkeypatch: pytest.MonkeyPatch):
    """The control: what is not plain does."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert yaml_of(VALUES[0]).startswith("base_model: org/name\nlibrary_name: transformers\ntags:\n- mixformer\n")
    assert licence_in(CARDS[0].encode()) == {"license": "apache-2.0"}
    with pytest.raises(ImportError):
        yaml_of(VALUES[3])


@pytest.mark.parametrize("text", CARDS)
def test_a_licence_is_read_as_the_card_classes_read_it(text: str):
    try:
        said = ModelCard(text).data.to_dict() if "---\n" in text.replace("\r", "")[3:] else {}
    except Exception:
        said = {}
    assert licence_in(text.encode()) == {k: said[k] for k in LICENCE_KEYS if isinstance(said.get(k), str)}


def test_the_comparison_would_notice_a_reader_that_takes_comments_along(monkeypatch: pytest.MonkeyPatch):
    import re

    monkeypatch.setattr(metadata, "LICENCE", re.compile(r"^(license): (.*)$", re.MULTILINE))
    monkeypatch.setattr(metadata, "_is_plain", lambda value: True)
    assert licence_in(CARDS[4].encode()) != {"license": "mit"}


def test_a_folder_that_is_only_converted_has_a_card_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_sample(tmp_path / "tiny")
    (tmp_path / "tiny" / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    for name in ("one", "other"):
        assert run("llama", "tiny", "--to", "mixformer", "--no-parity", "-o", name).code == 0
    text = Path("one/README.md").read_text()
    assert "## Verdict: UNVERIFIED" in text and "This was not judged" in text and "--reference tiny" in text
    assert ModelCard(text).data.to_dict()["license"] == "mit" and not Path("one", PICTURE).exists()
    assert text == Path("other/README.md").read_text()
    assert "README.md" in BESIDE and "README.md" not in json.loads(Path("one/conversion.json").read_text())["files"]
    assert "up to date" in run("llama", "tiny", "--to", "mixformer", "--no-parity", "-o", "one").out
    assert run("mixformer", "one", "--to", "llama", "--no-parity", "-o", "back").code == 0
    assert Path("back/README.md").read_text() == "---\nlicense: mit\n---\n# Tiny\n"
    assert run("llama", "tiny", "--to", "mixformer", "-o", "one").code == 0
    text = Path("one/README.md").read_text()
    assert "## Verdict: PASS" in text and "This was not judged" not in text and text.count(BEGIN.decode()) == 1


def test_a_card_of_a_source_with_a_plain_licence_loads_no_client_of_the_hub(tmp_path: Path):
    write_sample(tmp_path / "tiny")
    (tmp_path / "tiny" / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    code = (
        "import sys\nfrom cli.main import app\n"
        "try:\n    app(['llama', 'tiny', '--to', 'mixformer', '--no-parity', '--no-hash'], standalone_mode=False)\n"
        "except SystemExit:\n    pass\n"
        "print(sorted({'huggingface_hub', 'yaml', 'urllib.request', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "license: mit" in (tmp_path / "tiny-mixformer" / "README.md").read_text()
