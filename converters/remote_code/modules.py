"""The modules of the package `mixformer` as text: where they lie, what each imports, and in which order they import.

The package is read, never imported.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

from converters.errors import TargetRefused

PACKAGE = "mixformer"
INSIDE = re.compile(r"^(?!from |import ).*\bimport\b", re.MULTILINE)  # an import inside of something, or such a word


@dataclass(frozen=True)
class Module:
    """A module: its dotted name without the package's, its text, and the names of all modules of the package."""

    name: str
    text: str
    known: frozenset[str]

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """All nodes of the tree."""
        return tuple(ast.walk(self.tree))

    @cached_property
    def inner(self) -> tuple[tuple[str, ast.alias], ...]:
        """What it takes from the package: the module it comes from, and the name there and here."""
        found = [node for node in self.tree.body if isinstance(node, ast.ImportFrom) and _is_inner(node)]
        return tuple((self._home(node, alias), alias) for node in found for alias in node.names)

    def _home(self, node: ast.ImportFrom, alias: ast.alias) -> str:
        home = (node.module or "").removeprefix(PACKAGE).removeprefix(".")
        if f"{home}.{alias.name}".removeprefix(".") in self.known:
            raise TargetRefused(f"{self.name} imports the module {alias.name} as a name; import names from it instead")
        return home

    def check(self) -> None:
        """Refuses imports of the package that a flat file cannot hold.

        Raises:
            TargetRefused: an import of the package that is not `from ... import` at the top of the module.
        """
        for node in self.nodes if INSIDE.search(self.text) else self.tree.body:
            plain = isinstance(node, ast.Import) and any(alias.name.split(".")[0] == PACKAGE for alias in node.names)
            inside = isinstance(node, ast.ImportFrom) and _is_inner(node) and node not in self.tree.body
            if isinstance(node, ast.Import | ast.ImportFrom) and (plain or inside):
                raise TargetRefused(f"{self.name}, line {node.lineno}: only `from {PACKAGE}... import` at the top")


def _is_inner(node: ast.ImportFrom) -> bool:
    return node.level > 0 or (node.module or "").split(".")[0] == PACKAGE


def package_folder() -> Path:
    """Where the package lies: beside this one, as both are of one version, or where Python would find it.

    Raises:
        TargetRefused: it is nowhere.
    """
    beside = Path(__file__).parents[2] / PACKAGE
    if (beside / "__init__.py").is_file():
        return beside
    spec = find_spec(PACKAGE)
    for place in (spec and spec.submodule_search_locations) or ():
        return Path(place)
    raise TargetRefused(f"the package {PACKAGE}, whose code goes into the output, is not here; pass --no-code")


def read_modules(folder: Path) -> dict[str, Module]:
    """All modules of a package by dotted name; a room goes by its own name, the package itself by an empty one."""
    files = {_dotted(path.relative_to(folder)): path for path in sorted(folder.rglob("*.py"))}
    return {name: Module(name, path.read_text("utf-8"), frozenset(files) - {""}) for name, path in files.items()}


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def in_import_order(modules: Mapping[str, Module], entry: str) -> list[Module]:
    """The module `entry` and all that it needs, each after what it imports.

    Raises:
        TargetRefused: a module imports in a way that a flat file cannot hold.
        graphlib.CycleError: modules import each other in a circle.
    """
    needed = dict.fromkeys(_reached(modules, entry))
    graph = {name: sorted({home for home, _ in modules[name].inner}) for name in sorted(needed)}
    return [modules[name] for name in TopologicalSorter(graph).static_order()]


def _reached(modules: Mapping[str, Module], entry: str) -> Iterator[str]:
    waiting, seen = [entry], {entry}
    while waiting:
        name = waiting.pop()
        modules[name].check()
        yield name
        new = sorted({home for home, _ in modules[name].inner} - seen)
        seen.update(new)
        waiting += new
