"""The tables of docs/ are what the program says today."""

import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from converters import convert, list_families
from converters.config import harmless
from converters.family import umbrellas
from converters.support_matrix import COLUMNS, VARIANTS, markdown, matrix
from golden.evidence.calibration import LOW_PRECISION
from golden.faults.catalogue import all_faults, catalogue
from golden.faults.code_faults import code_faults
from golden.faults.healthy import healthy_variants
from golden.faults.kernel_faults import kernel_faults
from golden.faults.model_copy import admit
from golden.faults.self_testing import SelfTest, Trial, known_families
from golden.models.hot import make_hot
from golden.models.loading import read_config
from golden.models.obstacles import obstacle
from golden.report import trial_lines

ROOT = Path(__file__).parents[2]
SEEDS = 3


def marked(document: str, name: str) -> str:
    """The part of a document between two marks."""
    (found,) = re.findall(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", (ROOT / document).read_text(), re.DOTALL)
    return found


def rows(table: str) -> list[list[str]]:
    """The cells of a table, without its heading."""
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_fields_that_mean_nothing_are_those_of_the_program():
    assert marked("docs/config-fields.md", "harmless").splitlines() == harmless.table()


def script(name: str):
    """A script as a module; it finds its neighbours."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])
        spec.loader.exec_module(module)
    return module


def test_the_table_of_families_is_what_the_families_say():
    assert marked("docs/families.md", "families") == markdown(), "run scripts/families_table.py"


def test_every_variant_has_a_column_and_every_family_a_row():
    assert len(VARIANTS) == sum(map(len, COLUMNS.values()))
    families = [family.name for family in list_families(plugins=False) if family.dialect_of in ("", *umbrellas())]
    cells = rows(markdown())
    assert [row[0].strip("`") for row in cells] == families
    said = {(row[0].strip("`"), name) for row in cells for cell in row[1:] for name in cell.split("; ") if name != "–"}
    assert said == {(family, name) for name, row in matrix().items() for family, true in row.items() if true}


def test_the_table_of_forms_names_every_dialect():
    text = (ROOT / "docs" / "file-forms.md").read_text()
    named = {name for row in rows(text) for name in re.findall(r"`([\w-]+)`", row[2])}
    assert named == {family.name for family in list_families(plugins=False) if family.dialect_of}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    """The MixFormer of every family's hot model."""
    made = []
    for family in known_families()[0]:
        place = tmp_path_factory.mktemp(family)
        made.append(convert(make_hot(family, place / "hot"), family, output=place / "ours").output)
    return made


@pytest.fixture(scope="module")
def faults(models) -> Counter[tuple[str, str]]:
    """How many families can have each fault of weights, mapping and config."""
    return Counter((fault.kind, fault.name) for model in models for fault in catalogue(admit(model)))


@pytest.fixture(scope="module")
def runnable(models) -> Counter[str]:
    """How many families run in each low precision."""
    configs = [read_config(model) for model in models]
    return Counter(name for name, dtype in LOW_PRECISION.items() for one in configs if obstacle(one, dtype) is None)


def test_the_self_test_that_is_shown_planted_every_fault_of_today(faults, runnable):
    shown = {(row[0], row[1]): (int(row[2]), int(row[3])) for row in rows(marked("docs/self-test.md", "self-test"))}
    models = {key: count for key, (count, _) in shown.items() if key[0] in ("weight", "mapping", "config")}
    assert models == dict(faults), "run the second command of docs/self-test.md"
    assert {fault.name for fault in all_faults()} >= {name for _, name in models}
    assert {name for kind, name in shown if kind == "kernel"} == {fault.name for fault in kernel_faults()}
    assert {name for kind, name in shown if kind == "code"} == {fault.name for fault in code_faults()}
    sound = {name: count for (kind, name), (count, _) in shown.items() if kind == "healthy"}
    all_of_them = len(known_families()[0])
    assert sound == {
        variant.name: runnable.get(variant.name.rpartition(" in ")[2], all_of_them) for variant in healthy_variants()
    }
    assert runnable == {"bfloat16": all_of_them, "float16": all_of_them - 1}  # the tutorial's nGPT overflows
    assert all(trials == count * SEEDS for count, trials in shown.values())


def test_the_self_test_that_is_shown_passed_and_adds_up():
    text = marked("docs/self-test.md", "self-test")
    summary = text.splitlines()[0]
    trials: Counter[bool] = Counter()
    for kind, _, _, count, _, verdict in rows(text):
        trials[kind == "healthy"] += int(count)
        assert verdict == ("silent" if kind == "healthy" else "caught")
    caught = f"{trials[False]:,} of {trials[False]:,} faults caught"
    assert summary == f"PASS: {caught}, 0 false alarms in {trials[True]:,} correct variants"


def test_the_table_of_a_self_test_has_the_faintest_fault_and_the_loudest_sound_model(tmp_path):
    trials = (
        Trial("llama", "one sign in q", "weight", 0, 0.5, True),
        Trial("gpt2", "one sign in q", "weight", 1, 0.25, False),
        Trial("llama", "as converted", "healthy", 0, 1e-15, True),
        Trial("llama", "as converted", "healthy", 1, 2e-15, True),
    )
    made = script("self_test_table").section(trial_lines(SelfTest(trials))).splitlines()
    assert made[0] == "FAIL: 1 of 2 faults caught, 0 false alarms in 2 correct variants"
    assert made[-2:] == [
        "| weight | one sign in q | 2 | 2 | >= 2.5e-01 | MISSED, caught |",
        "| healthy | as converted | 1 | 2 | <= 2.0e-15 | silent |",
    ]


def test_a_marked_part_is_replaced_and_a_missing_mark_is_refused(tmp_path):
    replace_marked = script("marked_text").replace_marked
    document = tmp_path / "a.md"
    document.write_text("before\n<!-- x -->\nold\n<!-- /x -->\nafter\n")
    replace_marked(document, "x", "new\nlines")
    assert document.read_text() == "before\n<!-- x -->\nnew\nlines\n<!-- /x -->\nafter\n"
    with pytest.raises(ValueError, match="has 0 parts between <!-- y -->"):
        replace_marked(document, "y", "")
