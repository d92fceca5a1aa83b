"""Plug-ins: modules of other packages, found by their entry points.

They are looked up only when a family is asked for that is not built in, because searching the installed packages takes
a while.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from converters.errors import PluginRefused

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ADVICE = "repair the package or uninstall it"


class Plugin(NamedTuple):
    """A module, its package, and the name in its entry point."""

    package: str
    named: str
    module: ModuleType


def plugin_modules(group: str) -> Iterator[Plugin]:
    """The module behind each entry point of a group.

    Raises:
        PluginRefused: one cannot be imported.
    """
    from importlib.metadata import entry_points

    for entry in entry_points(group=group):
        yield Plugin(_package(entry), entry.value, _loaded(entry))


def _package(entry: "EntryPoint") -> str:
    return entry.dist.name if entry.dist is not None else entry.value


def _loaded(entry: "EntryPoint") -> ModuleType:
    try:
        module: ModuleType = entry.load()
    except Exception as error:  # whatever a foreign module raises when it is imported
        raise PluginRefused(f"the package {_package(entry)} cannot be imported ({error}); {ADVICE}") from error
    return module
