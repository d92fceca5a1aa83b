"""The pytest plug-in of the suite: the `--family` option and the fixtures (`-p golden.conformance.plugin`)."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from converters.family import Family


QUICK_SEEDS = 1  # variants besides the hot model itself


class NeverDrawn(UserWarning):
    """A switch of a family's config table that no variant turned on, so that the suite tested nothing of it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--family NAME`; it may be repeated."""
    parser.addoption("--family", action="append", default=[], help="family to test [default: all]")


def pytest_configure(config: pytest.Config) -> None:
    """Names the marker of the suite; a switch that was never drawn is a warning, also where warnings are errors."""
    config.addinivalue_line("markers", "slow: minutes rather than seconds")
    config.addinivalue_line("filterwarnings", f"always::{NeverDrawn.__module__}.{NeverDrawn.__name__}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run of each test for every family, and one for every variant where a test asks for `seed`."""
    if "conforming" not in metafunc.fixturenames:
        return
    named = metafunc.config.getoption("--family", default=[])
    chosen = named or _all_families()
    if "seed" in metafunc.fixturenames:
        pairs = [
            pytest.param(name, seed, marks=() if named else _marks(name, seed))
            for name in chosen
            for seed in _seeds(name)
        ]
        metafunc.parametrize(("conforming", "seed"), pairs, indirect=["conforming"])
    else:
        metafunc.parametrize("conforming", chosen, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Skips a test whose model the installed transformers has no class for, unless `--family` asked for it."""
    with _skipping(pyfuncitem.config):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, object, object]:
    """The same where a fixture makes the model."""
    with _skipping(request.config):
        return (yield)


@contextmanager
def _skipping(config: pytest.Config) -> Iterator[None]:
    from golden.errors import MissingClassError

    try:
        yield
    except MissingClassError as missing:
        if config.getoption("--family", default=[]):
            raise
        pytest.skip(str(missing))


def _all_families() -> list[str]:
    from golden.models.hot import own_functions

    return own_functions()


def _marks(family: str, seed: int) -> list[pytest.MarkDecorator]:
    """Where all families run: of one with a recipe of its own, variants but the first two are marked slow."""
    from golden.models.hot_recipes import RECIPES

    return [pytest.mark.slow] if seed > QUICK_SEEDS and family not in RECIPES else []


def _seeds(family: str) -> Sequence[int]:
    """The numbers of its variants; one for a family that cannot be asked, so that its test says why."""
    from converters.errors import ConversionError
    from golden.conformance.variants import variants
    from golden.errors import GoldenError

    try:
        return range(len(variants(family)))
    except (ConversionError, GoldenError):
        return range(1)


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
    """A hot checkpoint of the family, as its reference implementation saves it."""
    from golden.models.hot import make_hot

    return make_hot(conforming.name, tmp_path / "hot")
