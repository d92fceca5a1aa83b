"""The reference of the docs: every command with its options, and every public name with its docstring, in Markdown.

It is made from the program each time the site is built, so that it cannot be out of date.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import click
import typer.main

from cli.conversion import verb
from cli.family_verbs import EPILOG
from cli.main import app

PACKAGES = ("converters", "golden", "mixformer")
SECTIONS = re.compile(r"^(Args|Raises|Returns|Attributes):$", re.MULTILINE)


def command_page() -> str:
    """The page of the command line."""
    root = typer.main.get_command(app)
    found = [("convert FAMILY", conversion_of("llama")), *sorted(commands(root, "convert"), key=lambda pair: pair[0])]
    return "\n".join(["# The command", "", *(line for name, command in found for line in command_lines(name, command))])


def commands(group: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command below a group, with its full name."""
    children: dict[str, click.Command] = dict(getattr(group, "commands", {}))
    for word, child in children.items():
        if child.hidden:
            continue
        if getattr(child, "commands", None):
            yield from commands(child, f"{name} {word}")
        else:
            yield f"{name} {word}", child


def conversion_of(family: str) -> click.Command:
    """The command that converts a family. All families have the same options."""
    own = typer.Typer(add_completion=False, rich_markup_mode=None)
    about = "Convert a checkpoint of a family, and judge the result."
    own.command(family, help=about, epilog=EPILOG)(verb(family))
    return typer.main.get_command(own)


def command_lines(name: str, command: click.Command) -> Iterator[str]:
    """A heading, what it does, how it is called, and a table of options."""
    yield from (f"## {name}", "", inspect.cleandoc(command.help or ""), "")
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([name, *(str(p.name).upper() for p in arguments)])
    yield from ("```text", f"{usage} [OPTIONS]", "```", "", "| option | what it does |", "| --- | --- |")
    for param in sorted(command.params, key=lambda param: param not in arguments):
        words = ", ".join(f"`{word}`" for word in [*param.opts, *param.secondary_opts])
        said = f"`{str(param.name).upper()}`" if param in arguments else words
        yield f"| {said} | {cell(getattr(param, 'help', '') or '')}{default_of(param)} |"
    yield from ("", *([command.epilog, ""] if command.epilog else []))


def default_of(param: click.Parameter) -> str:
    """The default of an option that has one worth telling."""
    value = param.default
    return f" Default: `{value}`." if isinstance(value, int | str) and not isinstance(value, bool) else ""


def cell(text: str) -> str:
    """A text in a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def python_page() -> str:
    """The page of the public names of the packages."""
    lines = ["# Python", ""]
    for package in PACKAGES:
        module = import_module(package)
        lines += [f"## {package}", "", *docstring_lines(module), ""]
        for name in module.__all__:
            if name.startswith("__"):
                continue
            lines += [f"### {package}.{name}", "", *object_lines(name, getattr(module, name)), ""]
    return "\n".join(lines)


def object_lines(name: str, value: Any) -> Iterator[str]:
    """Signature and docstring of a function or class; the value of a constant."""
    if not callable(value):
        yield f"`{value!r}`"
        return
    if inspect.isfunction(value):
        given = [f"    {parameter}," for parameter in signature_of(value).parameters.values()]
        yield from ("```python", f"{name}(", *given, ")", "```", "")
    yield from docstring_lines(value)


def signature_of(function: Any) -> inspect.Signature:
    """A signature whose annotations are the words of the source."""
    signature = inspect.signature(function)
    words = [
        p.replace(annotation=p.annotation if isinstance(p.annotation, str) else inspect.formatannotation(p.annotation))
        for p in signature.parameters.values()
    ]
    return signature.replace(parameters=words)


def docstring_lines(value: Any) -> list[str]:
    """A docstring as Markdown: its sections become bold words, their indented entries lists."""
    lines, listed = [], False
    for line in (inspect.getdoc(value) or "").splitlines():
        if SECTIONS.match(line):
            listed = True
            lines += [f"**{line.rstrip(':')}**", ""]
        elif listed and line.startswith("    ") and not line.startswith("     "):
            lines.append(f"- {line.strip()}")
        else:
            lines.append(line)
    return lines
