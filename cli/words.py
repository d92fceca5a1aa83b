"""Words of the command line that are taken as they stand.

typer gives every parameter to pydantic, whose import takes longer than reading the headers of a checkpoint, planning
and proving together. Strings, paths, lists of strings and defaults need no such help; all else still gets it.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup


class Verb(TyperCommand):
    """A command that loads pydantic only for words that need it."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, the one for help among them."""
        return [_plain(param) for param in super().get_params(ctx)]


class Verbs(TyperGroup):
    """Commands, and options before them, alike."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, the one for help among them."""
        return [_plain(param) for param in super().get_params(ctx)]


def _plain(param: Any) -> Any:
    """The parameter itself, with its way from words to values changed."""
    if not isinstance(param.process_value, partial):
        param.process_value = partial(_value, param, param.process_value)
    return param


def _value(param: Any, typers: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    """The value of a parameter; found in typer's own way where it is missing, or more than a word."""
    annotation = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    made = value
    if annotation is Path and isinstance(value, str):
        made = Path(value)
    elif annotation == list[str] and isinstance(value, list | tuple):
        made = list(value)
    elif type(value) is not annotation and (value is not None or param.required):
        return typers(ctx, value)
    return param.callback(ctx, param, made) if param.callback else made
