"""The map of the code is true: each file that docs/architecture.md names exists and holds the names said of it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAP = (ROOT / "docs" / "architecture.md").read_text()
PLACE = re.compile(r"`([\w/]+\.py)`(?:: ((?:`\w+`(?:, )?)+))?")
ROOMS = sorted(set(re.findall(r"(?<=[\s`\"])([a-z_]+)/(?=[:`\"\s])", MAP)))


def places(text: str) -> list[tuple[str, str]]:
    """(file, name) for each name that a text says a file holds; the name is empty where only the file is named."""
    return [(file, name) for file, names in PLACE.findall(text) for name in re.findall(r"\w+", names) or [""]]


def missing(text: str) -> list[str]:
    """What a text says and the code does not have."""
    return [f"{file}: {name}" for file, name in places(text) if name not in {"", *defined(ROOT / file)}]


def defined(file: Path) -> set[str]:
    """Names that a file binds at its top."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def test_files_and_names_exist():
    assert len(places(MAP)) > 25
    assert missing(MAP) == []


def test_a_name_that_is_gone_would_be_found():
    assert missing("`converters/family.py`: `get_family`, `no_such_name`") == ["converters/family.py: no_such_name"]


@pytest.mark.parametrize("package", ["converters", "golden"])
def test_every_room_is_on_the_map(package):
    rooms = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")} - {"conformance"}
    assert rooms <= set(ROOMS)
