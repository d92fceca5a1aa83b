"""Scripts that no test runs name only what the packages have."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent.parent / "scripts").glob("*.py"))
OURS = ("cli", "converters", "golden", "mixformer")


def missing(code: str) -> Iterator[str]:
    """Names that a script imports from the packages, anywhere in it, and that are not there."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            module = import_module(node.module)
            yield from (f"{node.module}.{one.name}" for one in node.names if not hasattr(module, one.name))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_what_a_script_imports_is_there(script):
    assert list(missing(script.read_text())) == []


def test_a_name_that_is_gone_is_found():
    code = "def push():\n    from converters.provenance import fingerprint, set_verdict\n"
    assert list(missing(code)) == ["converters.provenance.set_verdict"]
