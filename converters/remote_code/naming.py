"""Which name each global of the package has in a flat file: its own, or one with the module's name before it."""

import ast
import builtins
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from converters.errors import TargetRefused
from converters.remote_code.modules import Module

Outside = tuple[str, str]  # module and name of an import from outside of the package; no name: the module itself


@dataclass(frozen=True)
class Names:
    """flat: (module, its name) -> the name in the flat files. outside: name there -> what is imported under it."""

    flat: Mapping[tuple[str, str], str]
    outside: Mapping[str, Outside]

    def of(self, module: Module) -> dict[str, str]:
        """Global name in a module -> name in the flat files, for all that it defines or takes from the package."""
        own = {name: flat for (home, name), flat in self.flat.items() if home == module.name}
        taken = {alias.asname or alias.name: self.flat[_origin(home, alias)] for home, alias in module.inner}
        return {**own, **taken}


def _origin(home: str, alias: ast.alias) -> tuple[str, str]:
    return home, alias.name


def names_of(modules: Sequence[Module]) -> Names:
    """The names of all globals. Those that several modules define, or that mean something else outside, are prefixed.

    Raises:
        TargetRefused: two modules import different things from outside under one name.
    """
    outside: dict[str, Outside] = {}
    for module in modules:
        for name, found in outside_imports(module):
            if outside.setdefault(name, found) != found:
                raise TargetRefused(f"{module.name} imports {found} as {name}, another module {outside[name]}")
    defined = [(module.name, name) for module in modules for name in defined_names(module)]
    often = Counter(name for _, name in defined)
    taken = {*outside, *dir(builtins), *(name for name, count in often.items() if count > 1)}
    flat = {(home, name): _prefixed(home, name) if name in taken else name for home, name in defined}
    # A name that is handed on is that of the module that defines it.
    for module in modules:
        flat |= {(module.name, a.asname or a.name): flat[home, a.name] for home, a in module.inner}
    return Names(flat, outside)


def _prefixed(home: str, name: str) -> str:
    return f"_{home.replace('.', '_')}_{name.lstrip('_')}"


def outside_imports(module: Module) -> Iterator[tuple[str, Outside]]:
    """Names that a module imports from outside of the package, and what they are."""
    inner = {id(alias) for _, alias in module.inner}
    for node in module.tree.body:
        if isinstance(node, ast.Import):
            yield from ((a.asname or a.name, (a.name, "")) for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
            yield from ((a.asname or a.name, (node.module, a.name)) for a in node.names if id(a) not in inner)


def defined_names(module: Module) -> list[str]:
    """Names that statements at the top of a module define, in order."""
    found: dict[str, None] = {}
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = None
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            found |= dict.fromkeys(_stored(node))
    found.pop("__all__", None)
    return list(found)


def _stored(node: ast.AST) -> Iterator[str]:
    return (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
