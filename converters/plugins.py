"""Families of other packages, found by the entry-point group `mixformer.families`.

An entry point names a module with a `FAMILY`, as the modules of `converters.families` have. They are looked up only
when a family is asked for that is not built in, because to look through the installed packages takes a while.
"""

from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING

from converters.errors import PluginRefused

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from converters.family import Family

GROUP = "mixformer.families"
COMMANDS = frozenset("plan parity golden push inspect diff families zoo mixformer".split())


@cache
def plugin_families(built_in: frozenset[str]) -> dict[str, "Family"]:
    """Name -> family of every installed package that brings one.

    Raises:
        PluginRefused: one cannot be imported, is no family, or has a name that is taken.
    """
    from importlib.metadata import entry_points

    found: dict[str, Family] = {}
    for entry in entry_points(group=GROUP):
        family = _loaded(entry)
        _check_name(family.name, _package(entry), {*COMMANDS, *built_in, *found})
        found[family.name] = family
    return found


def _package(entry: "EntryPoint") -> str:
    return entry.dist.name if entry.dist is not None else entry.value


def _loaded(entry: "EntryPoint") -> "Family":
    from converters.family import Family

    advice = "mend the package or uninstall it"
    try:
        family = getattr(entry.load(), "FAMILY", None)
    except Exception as error:  # whatever a foreign module raises when it is imported
        raise PluginRefused(f"the package {_package(entry)} cannot be imported ({error}); {advice}") from error
    if not isinstance(family, Family):
        raise PluginRefused(f"{entry.value} of the package {_package(entry)} has no FAMILY of families; {advice}")
    return family


def _check_name(name: str, package: str, taken: Collection[str]) -> None:
    if name in taken:
        raise PluginRefused(f"the package {package} brings a family {name!r}, a name that is taken; uninstall it")
