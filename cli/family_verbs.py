"""`convert FAMILY`: a verb for each family, made when it is asked for, so that no other family's table is loaded."""

from typing import Any

import typer

from cli import conversion
from cli.words import Verb, Verbs

EPILOG = "For example: convert llama ./my-llama --to mixformer"


class Root(Verbs):
    """The commands, and the families beside them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The built-in families, then the commands; those of other packages are found by their name alone."""
        from converters.family import list_families, umbrellas

        families = {family.name for family in list_families(plugins=False) if not family.dialect_of}
        return [*sorted({*families, *umbrellas()}), *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command or family of that name; None if there is none."""
        title = None if cmd_name in self.commands else _title(cmd_name)
        if title is not None:
            text = f"Convert a {cmd_name} checkpoint: {title}."
            self.commands[cmd_name] = FamilyVerb(cmd_name, help=text, rich_markup_mode=None)
        return super().get_command(ctx, cmd_name)


def _title(name: str) -> str | None:
    """What a family or umbrella is called in full; None for a dialect, and for no family."""
    from converters.family import find_family, find_umbrella

    umbrella = find_umbrella(name)
    if umbrella is not None:
        return umbrella.title
    family = find_family(name)
    return family.title if family and not family.dialect_of else None


class FamilyVerb(Verb):
    """A family's verb, with nothing but what the list of commands shows; its options are made when it runs."""

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        """The context of the whole command."""
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command(self.name, cls=Verb, help=self.help, epilog=EPILOG)(conversion.verb(str(self.name)))
        return typer.main.get_command(app).make_context(info_name, args, parent, **extra)
