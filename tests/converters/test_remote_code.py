"""The code beside a MixFormer: two flat files made from the package's text, the same bytes each time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import check_imports, get_relative_imports

from converters.alignment import equal_folders
from converters.conversion import Request, convert
from converters.errors import TargetRefused
from converters.provenance import read_record
from converters.remote_code import exported
from converters.remote_code.exported import AUTO_MAP, CLASSES, CONFIGURATION, FILES, code_files, is_ours
from converters.remote_code.modules import package_folder
from converters.sample import write_sample
from golden import compare


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write_sample(tmp_path_factory.mktemp("source") / "tiny")


@pytest.fixture
def ours(source: Path, tmp_path: Path) -> Path:
    return convert(source, output=tmp_path / "ours").output


def config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def change_config(folder: Path, **fields: object) -> None:
    (folder / "config.json").write_text(json.dumps({**config(folder), **fields}))


def test_an_output_holds_the_code_its_hashes_and_the_auto_map(ours):
    assert config(ours)[AUTO_MAP] == CLASSES
    for name in FILES:
        assert (ours / name).read_bytes() == code_files()[name]
        assert len(read_record(ours)["files"][name]) == 64


def test_no_code_leaves_both_out_and_is_another_request(source, tmp_path):
    bare = convert(source, output=tmp_path / "bare", request=Request(code=False)).output
    assert AUTO_MAP not in config(bare) and not list(bare.glob("*.py"))
    assert convert(source, output=bare, request=Request(code=False)).up_to_date
    with pytest.raises(TargetRefused, match="not empty"):
        convert(source, output=bare)


def test_equal_packages_give_equal_bytes_in_another_process_that_does_not_import_the_package():
    code = """
import sys, hashlib
from converters.remote_code.exported import code_files
print([hashlib.sha256(data).hexdigest() for data in code_files().values()])
assert not {"mixformer", "torch", "transformers"} & set(sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(package_folder().parent)}
    made = {
        subprocess.run(
            [sys.executable, "-c", code], env={**environment, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(made) == 1


def test_transformers_sees_flat_siblings_alone(ours):
    """Its scanner reads lines, also those of docstrings, and asks for every package that is imported."""
    assert get_relative_imports(ours / FILES[0]) == []
    assert get_relative_imports(ours / FILES[1]) == [CONFIGURATION]
    for name in FILES:
        check_imports(ours / name)


def test_the_text_of_the_package_is_kept():
    made = code_files()[FILES[1]].decode()
    for name in ("visibility.py", "samples.py", "blocks/heads/causal_lm.py"):
        whole = (package_folder() / name).read_text()
        _, _, text = whole.partition("\n\n\n")  # what follows the imports
        assert len(text) > 500 and text in made, name


def test_the_way_back_is_equal_and_no_code_comes_along(source, ours, tmp_path):
    change_config(ours, auto_map={"AutoConfig": "modeling_evil.Evil"})
    (ours / "modeling_evil.py").write_text("raise SystemExit('this ran')")
    back = convert(ours, to="llama", output=tmp_path / "back").output
    assert equal_folders(source, back) == [] and not list(back.glob("*.py"))
    assert AUTO_MAP not in (back / "config.json").read_text()


def test_diff_says_nothing_of_code_that_is_missing_and_names_code_that_differs(source, ours, tmp_path):
    bare = convert(source, output=tmp_path / "bare", request=Request(code=False)).output
    assert equal_folders(ours, bare) == equal_folders(bare, ours) == []
    (ours / FILES[1]).write_text("# older\n")
    assert equal_folders(ours, bare) == [f"{FILES[1]} is only in {ours}, and is not what this version writes"]
    again = convert(source, output=tmp_path / "again").output
    assert equal_folders(ours, again) == [f"{FILES[1]} differs"]
    change_config(bare, auto_map={"AutoConfig": "modeling_evil.Evil"})
    assert any("auto_map" in line for line in equal_folders(again, bare))


def test_l0_notes_that_the_installed_package_was_judged(source, ours):
    assert compare(ours, source, levels=["L0"]).level("L0").detail == ""
    (ours / FILES[1]).write_text("raise SystemExit('this ran')\n")
    level = compare(ours, source, levels=["L0"]).level("L0")
    assert level.status == "PASS"
    assert level.detail == (
        f"{FILES[1]} differs from what this version writes: the installed package was judged, and not the folder's code"
    )
    (ours / FILES[1]).unlink()
    assert "which the folder does not hold" in compare(ours, source, levels=["L0"]).level("L0").detail


def test_an_auto_map_is_ours_by_its_values():
    assert is_ours(dict(CLASSES)) and is_ours({"AutoConfig": CLASSES["AutoConfig"]})
    for other in ({}, None, "x", {"AutoConfig": "a.B"}, {**CLASSES, "AutoModel": "a.B"}):
        assert not is_ours(other)


# --- the generator, on small packages


def package(folder: Path, **modules: str) -> Path:
    for name, text in {CONFIGURATION: "", "modeling_mixformer_sequential": "", **modules}.items():
        (folder / f"{name}.py").write_text("from __future__ import annotations\n" + text)
    (folder / "__init__.py").write_text("")
    return folder


def run_flat(folder: Path, place: Path) -> dict:
    """The globals of the second file after both were run, the first standing for the sibling."""
    files = code_files(folder)
    for name, data in files.items():
        (place / name).write_bytes(data)
    code = f"""
import sys, json
sys.path.insert(0, {str(place.parent)!r})
import {place.name}.{FILES[1][:-3]} as made
print(json.dumps(made.RESULT))
"""
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_names_that_clash_are_prefixed_and_aliases_lead_where_they_led(tmp_path):
    folder, place = tmp_path / "p", tmp_path / "flat"
    folder.mkdir(), place.mkdir()
    package(
        folder,
        one="SIZE = 1\ndef _size():\n    return SIZE\ndef first():\n    return _size()\ndef max():\n    return 'own'\n",
        two="import math\nSIZE = 2\ndef _size() -> int:\n    return SIZE * math.floor(1.5)\nclass A:\n"
        "    def _size(self):\n        return 5\n"
        "    def size(self, size=SIZE):\n        return [_size(), self._size(), size]\n",
        both="from mixformer.one import first\nfrom mixformer.two import A\n",
        modeling_mixformer_sequential="from mixformer.both import A as B\nfrom mixformer.both import first\n"
        "from mixformer.one import SIZE as ONE\nfrom mixformer.one import max as most\nSIZE = 3\n"
        "RESULT = [first(), *B().size(), ONE, SIZE, most(), max(1, 2)]\n",
    )
    assert run_flat(folder, place) == [1, 2, 5, 2, 1, 3, "own", 2]
    assert "def _two_size() -> int:" in code_files(folder)[FILES[1]].decode()


MODEL = "modeling_mixformer_sequential"
ALIAS = "from mixformer.one import size as s\ndef size(s): return s\n"
REFUSED = {
    "at the top": {MODEL: "def f():\n    from mixformer.one import x\n"},
    "only .from mixformer": {MODEL: "import mixformer.one\n"},
    "imports the module one as a name": {MODEL: "from mixformer import one\n"},
    "s is local here and global elsewhere": {"one": "def size(): pass\n", MODEL: ALIAS},
    "another module": {"one": "import a as x\ny = 1\n", MODEL: "import b as x\nfrom mixformer.one import y\n"},
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_package_that_does_not_fit_into_flat_files_is_refused(why, tmp_path):
    with pytest.raises(TargetRefused, match=why):
        code_files(package(tmp_path, **{"one": "x = 1\n", **REFUSED[why]}))


def test_without_the_package_the_conversion_says_what_to_do(source, tmp_path, monkeypatch):
    def nowhere() -> Path:
        raise TargetRefused("the package mixformer, whose code goes into the output, is not here; pass --no-code")

    monkeypatch.setattr(exported, "package_folder", nowhere)
    code_files.cache_clear()
    with pytest.raises(TargetRefused, match="--no-code"):
        convert(source, output=tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    assert convert(source, output=tmp_path / "ours", request=Request(code=False)).files
