"""Modules joined into one flat file: their text is kept, imports go to the top, names that clash are prefixed."""

import ast
from collections.abc import Iterator, Mapping, Sequence

from converters.errors import TargetRefused
from converters.remote_code.modules import PACKAGE, Module
from converters.remote_code.naming import Names, Outside, outside_imports

HEAD = '''"""{title}

Made from the package {package} by `convert`: its modules in the order in which they import each other, in one file, as
transformers loads code from a model's folder. With the package installed and imported, its own classes run instead.
"""

from __future__ import annotations
'''
SCOPES = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.comprehension)
Edit = tuple[int, int, int, str]  # line, first and last byte in it, and what stands there instead


def flat_file(title: str, modules: Sequence[Module], names: Names, other: Mapping[str, Sequence[Module]]) -> str:
    """The text of a flat file.

    other: name of another flat file -> the modules in it, of which names are imported.

    Raises:
        TargetRefused: a name that is prefixed is also a local one in its module.
    """
    bodies = [(module, body(module, names.of(module))) for module in modules]
    imports = [*_outside_lines(modules, names), *_sibling_lines(modules, names, other)]
    parts = [HEAD.format(title=title, package=PACKAGE), "\n".join(imports) + "\n"]
    parts += [f"\n# {PACKAGE}/{module.name.replace('.', '/')}\n\n{text}" for module, text in bodies]
    return "\n".join(parts)


def _outside_lines(modules: Sequence[Module], names: Names) -> Iterator[str]:
    wanted = {name for module in modules for name, _ in outside_imports(module)}
    found = {name: names.outside[name] for name in sorted(wanted)}
    yield from (_import_line(name, what) for name, what in found.items() if not what[1])
    homes: dict[str, list[str]] = {}
    for name, (home, what) in found.items():
        if what:
            homes.setdefault(home, []).append(_as(what, name))
    yield from (f"from {home} import {', '.join(sorted(listed))}" for home, listed in sorted(homes.items()))


def _import_line(name: str, what: Outside) -> str:
    return f"import {_as(what[0], name)}"


def _as(what: str, name: str) -> str:
    return what if what == name else f"{what} as {name}"


def _sibling_lines(modules: Sequence[Module], names: Names, other: Mapping[str, Sequence[Module]]) -> Iterator[str]:
    for file, theirs in other.items():
        homes = {module.name for module in theirs}
        wanted = {names.flat[home, a.name] for module in modules for home, a in module.inner if home in homes}
        if wanted:
            yield f"from .{file} import (\n" + "".join(f"    {name},\n" for name in sorted(wanted)) + ")"


def body(module: Module, flat: Mapping[str, str]) -> str:
    """The text of a module without its imports, with the names of the flat file."""
    changed = {name: new for name, new in flat.items() if name != new}
    lines = module.text.encode().splitlines(keepends=True)
    for line, start, end, new in sorted(_edits(module, changed), reverse=True):
        lines[line - 1] = lines[line - 1][:start] + new.encode() + lines[line - 1][end:]
    for node in _left_out(module):
        lines[node.lineno - 1 : node.end_lineno] = [b""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    return b"".join(lines).decode().strip() + "\n"


def _left_out(module: Module) -> Iterator[ast.stmt]:
    for node in module.tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        is_all = any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)
        if is_all or isinstance(node, ast.Import | ast.ImportFrom):
            yield node


def _edits(module: Module, changed: Mapping[str, str]) -> Iterator[Edit]:
    """Where a changed name stands. It may not be a local name too, because then it would mean two things.

    Raises:
        TargetRefused: it is.
    """
    if not changed:
        return
    for name, line in _local_names(module.tree, inside=False):
        if name in changed:
            raise TargetRefused(f"{module.name}, line {line}: {name} is local here and global elsewhere; rename one")
    for node in module.nodes:
        if isinstance(node, ast.Name) and node.id in changed:
            yield node.lineno, node.col_offset, node.end_col_offset or 0, changed[node.id]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and node in module.tree.body and node.name in changed:
            start = node.col_offset + len("def " if isinstance(node, ast.FunctionDef) else "class ")
            yield node.lineno, start, start + len(node.name.encode()), changed[node.name]


def _local_names(scope: ast.AST, *, inside: bool) -> Iterator[tuple[str, int]]:
    """Names that are bound inside of functions, classes, lambdas and comprehensions, with a line of each."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif inside and isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif inside and isinstance(node, ast.FunctionDef | ast.ClassDef) and not _is_method(scope, node):
            yield node.name, node.lineno
        yield from _local_names(node, inside=inside or isinstance(node, SCOPES))


def _is_method(scope: ast.AST, node: ast.AST) -> bool:
    """Whether a function stands in a class: its name is then an attribute, and no name that code reads."""
    return isinstance(scope, ast.ClassDef) and isinstance(node, ast.FunctionDef)
