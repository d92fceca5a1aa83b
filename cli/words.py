"""Commands whose plain values are read without pydantic.

typer gives every parameter to pydantic, whose import takes longer than reading the headers of a checkpoint, planning
and proving together. Strings, paths, lists of strings and defaults need no pydantic. Other values still get it.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from typer import BadParameter
from typer.core import TyperCommand, TyperGroup

from converters.errors import nearest


class Verb(TyperCommand):
    """A command that loads pydantic only for values that need it."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, the one for help among them."""
        return [_plain(param) for param in super().get_params(ctx)]

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """The line that begins with `Usage`; the verb for sources of any family has no name in it."""
        formatter.write_usage(" ".join(ctx.command_path.split()), " ".join(self.collect_usage_pieces(ctx)))


class Verbs(TyperGroup):
    """A group of such commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, the one for help among them."""
        return [_plain(param) for param in super().get_params(ctx)]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first argument names; a usage error in our words where there is none."""
        if args and self.get_command(ctx, args[0]) is None and args[0][:1].isalnum():
            what = "command" if ctx.parent else "family or command"
            meant = nearest(args[0], self.list_commands(ctx), alike=0.6)
            other = "" if ctx.parent else ", and no file or folder of that name"
            ctx.fail(f"there is no {what} {args[0]!r}{meant}{other}")
        return super().resolve_command(ctx, args)


def _plain(param: Any) -> Any:
    """The parameter, with another function that makes its value."""
    if not isinstance(param.process_value, partial):
        param.process_value = partial(_value, param, param.process_value)
    return param


def _value(param: Any, typers: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    """The value of a parameter. typer makes it where it is missing or not plain.

    Raises:
        typer.BadParameter: it is an empty text, such as a shell variable that was never set.
    """
    if value == "" or (isinstance(value, list | tuple) and "" in value):
        raise BadParameter("is empty, expected a value", ctx, param)
    annotation = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    made = value
    if annotation is Path and isinstance(value, str):
        made = Path(value)
    elif annotation == list[str] and isinstance(value, list | tuple):
        made = list(value)
    elif type(value) is not annotation and (value is not None or param.required):
        return typers(ctx, value)
    return param.callback(ctx, param, made) if param.callback else made
