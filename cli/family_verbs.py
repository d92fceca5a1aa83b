"""`convert FAMILY` and `convert SOURCE`: verbs made when they are asked for, so that no other family's table is loaded.

A word is a command or a family first, then a path, a file or the id of a repo: `./plan` is always a path.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli import conversion
from cli.console import Printed
from cli.words import Verb, Verbs

if TYPE_CHECKING:
    from converters.family import Family, Umbrella

EPILOG = "For example: convert ./my-llama --to mixformer"
ANY = "Convert a checkpoint whose family is found by itself; without --to, say what it is and could become."


class Root(Verbs):
    """The commands, and the families beside them."""

    def main(self, args: Any = None, *more: Any, **extra: Any) -> Any:
        """Runs the command line, from the beginning."""
        words = list(sys.argv[1:] if args is None else args)
        Printed.json, Printed.wanted = False, "--json" in (words[: words.index("--")] if "--" in words else words)
        return super().main(args, *more, **extra)

    def list_commands(self, ctx: Any) -> list[str]:
        """The built-in families, then the commands; those of other packages are found by their name alone."""
        from converters.family import list_families, umbrellas

        families = {family.name for family in list_families(plugins=False) if not family.dialect_of}
        return [*sorted({*families, *umbrellas()}), *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, family or dialect of that name; None if there is none."""
        from converters.family import find_family, find_umbrella

        found = None if cmd_name in self.commands else find_umbrella(cmd_name) or find_family(cmd_name)
        if found is not None:
            help, short = _text(found), f"Convert {found.title}."  # typer would cut a longer one in the list
            self.commands[cmd_name] = FamilyVerb(cmd_name, help=help, short_help=short, rich_markup_mode=None)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names; where it names a source, the verb for sources of any family."""
        if args and self.get_command(ctx, args[0]) is None and _is_source(args[0]):
            return "", FamilyVerb(None, help=ANY, rich_markup_mode=None), args
        return super().resolve_command(ctx, args)


def _is_source(word: str) -> bool:
    """Whether a word names a path, a file or a repo."""
    from cli.hub.addresses import LOCAL, SCHEME, address_of

    if word.startswith((*LOCAL, SCHEME)) or Path(word).exists():
        return True
    return "/" in word.strip("/") or address_of(word) is not None


def _text(found: "Family | Umbrella") -> str:
    """What the verb of a family, umbrella or dialect says of itself."""
    if getattr(found, "dialect_of", ""):
        return f"Convert {found.title}."
    return f"Convert {article(found.name)} {found.name} checkpoint: {found.title}."


def article(name: str) -> str:
    """`an` before a vowel."""
    return "an" if name[0] in "aeiou" else "a"


class FamilyVerb(Verb):
    """A family's verb, with nothing but what the list of commands shows; its options are made when it runs.

    Without a name it is the verb for sources whose family is found.
    """

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        """The context of the whole command."""
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command(self.name, cls=Verb, help=self.help, epilog=EPILOG)(conversion.verb(self.name))
        return typer.main.get_command(app).make_context(info_name, args, parent, **extra)
