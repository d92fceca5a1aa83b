"""Usage errors of typer in the style of all other errors: one sentence, then a line that says where the help is."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from converters.counts import counted
from converters.errors import nearest

NUMBERS: Mapping[Any, str] = {int: "a whole number", float: "a number"}


def is_usage_error(failure: Exception) -> bool:
    """Whether typer found something wrong with the command line."""
    return hasattr(failure, "format_message") and getattr(failure, "exit_code", None) == 2


def usage_sentence(misuse: Any) -> str:
    """What is wrong with the command line, as one sentence in our words."""
    param, option = getattr(misuse, "param", None), getattr(misuse, "option_name", None)
    if hasattr(misuse, "param_type"):
        return _missing(misuse.param, misuse.param_type)
    if param is not None:
        return f"{_name(param)}: {_expected(param) or _plain(misuse.message)}"
    if hasattr(misuse, "possibilities"):
        return f"there is no option {option}{nearest(str(option), _options(misuse.ctx))}"
    if option is not None:
        return f"{option} {'takes no value' if 'does not take' in misuse.message else 'needs a value'}"
    extra = re.search(r"unexpected extra argument\S* \((.*)\)", misuse.message)
    if extra:
        words = extra[1].split()
        return f"{counted(len(words), 'argument')} too many: {' '.join(words)}"
    return _plain(misuse.message)


def usage_hint(misuse: Any, words: Sequence[str]) -> str:
    """The line below the sentence: which command shows the help. ``words``: the program and its first argument."""
    ctx = getattr(misuse, "ctx", None)
    path = ctx.command_path if ctx else " ".join(word for word in words if not word.startswith("-"))
    return f"  for help: {' '.join(path.split())} --help"


def _missing(param: Any, kind: str | None) -> str:
    told = f": {_plain(param.help)}" if getattr(param, "help", None) else ""
    return f"the {kind or param.param_type_name} {_name(param)} is missing{told}"


def _name(param: Any) -> str:
    """An option by its long name, an argument as the help spells it, without what may stand before it."""
    if param.param_type_name == "option":
        return str(max(param.opts, key=len))
    return str(param.get_error_hint()).strip("'").rpartition("] ")[2]


def _expected(param: Any) -> str:
    """What a number should have been; empty for anything else."""
    annotation = getattr(param.type_descriptor, "annotation", None)
    if annotation not in NUMBERS:
        return ""
    kind = NUMBERS[annotation]
    return f"expected {kind}" + ("" if param.min is None else f" of {param.min} or more")


def _options(ctx: Any) -> list[str]:
    return [] if ctx is None else [name for param in ctx.command.get_params(ctx) for name in param.opts]


def _plain(message: str) -> str:
    """A sentence of typer without its capital and its full stop."""
    return message[:1].lower() + message[1:].rstrip(".")
