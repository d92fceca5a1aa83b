"""The pytest plug-in of the suite: the `--family` option and the fixtures. Loaded by `-p golden.conformance.plugin`."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from converters.family import Family


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--family NAME`; it may be repeated."""
    parser.addoption("--family", action="append", default=[], help="family to test [default: all]")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run of each test for every family."""
    if "conforming" in metafunc.fixturenames:
        from converters import list_families

        # A dialect is another file form of a family: the tests of its reader prove its function.
        all_families = [found.name for found in list_families() if not found.dialect_of]
        chosen = metafunc.config.getoption("--family", default=[]) or all_families
        metafunc.parametrize("conforming", chosen, indirect=True)


@pytest.fixture
def conforming(request: pytest.FixtureRequest) -> "Family":
    """The family under test."""
    from converters.family import get_family
    from golden.models.hot import has_recipe

    found = get_family(request.param)
    assert has_recipe(found.name), f"no hot model is known for {found.name}: give its FAMILY a `hot` recipe"
    return found


@pytest.fixture
def hot_checkpoint(conforming: "Family", tmp_path: Path) -> Path:
    """A hot checkpoint of the family, as transformers saves it."""
    from golden.conformance.variants import variant
    from golden.models.hot import make_hot

    return make_hot(conforming.name, tmp_path / "hot", 0, **variant(conforming.name, 0))
