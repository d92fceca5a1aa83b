"""The command line: the app with its commands, and the error that is printed for an exception.

Every command imports what it needs when it runs, so that `convert --help` starts at once and never loads torch.
"""

import io
import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, TextIO

import typer

from cli import conversion, diff, families, golden_files, inspect, interrupts, parity, plan, push
from cli.family_verbs import EPILOG, Root
from cli.words import Verb
from cli.zoo import command as zoo
from converters.version import __version__

app = typer.Typer(
    cls=Root,
    help="Convert model checkpoints between MixFormer and other families without losing a bit, and prove it.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"{_program()} {__version__}", flush=True)
        raise typer.Exit()


Version = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version of this program.")
]


@app.callback()
def root(version: Version = False) -> None:
    """Options of the program itself."""


command = partial(app.command, cls=Verb)

command(
    "mixformer",
    help="Convert a MixFormer checkpoint to another family.",
    epilog="For example: convert mixformer ./m --to llama",
)(conversion.verb("mixformer"))
command("plan", epilog="For example: convert plan ./my-llama --to mixformer")(plan.plan)
command("parity", epilog="For example: convert parity ./my-mixformer --reference ./my-llama")(parity.parity)
app.add_typer(golden_files.app, name="golden")
command("push", epilog="For example: convert push ./my-mixformer me/my-mixformer --dry-run")(push.push)
command("inspect", epilog="For example: convert inspect ./my-llama")(inspect.inspect)
command("diff", epilog="For example: convert diff ./my-llama ./my-llama-back")(diff.diff)
command("zoo", epilog="For example: convert zoo zoo.toml --jobs 2")(zoo.zoo)
command("families", epilog="For example: convert families --json")(families.families)


def main() -> None:
    """Runs the command line and exits with its code (see `docs/exit-codes.md`)."""
    interrupts.guarded(_run)


def _run() -> None:
    debug = "--debug" in sys.argv
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()  # None where they were closed
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text
    asked = [command for command in app.registered_commands if [command.name] == sys.argv[1:2]]
    app.registered_commands = asked or app.registered_commands  # else typer would read the options of all
    try:
        code = _answered()
        if code == interrupts.EXIT_CODE:
            raise KeyboardInterrupt
        sys.exit(code)
    except Exception as failure:
        if interrupts.pressed():
            raise  # whatever became of it, the cause is Ctrl-C
        if debug:
            import traceback

            traceback.print_exc()
        sys.exit(_told(failure, debug=debug))


def _answered() -> int:
    """Runs the command and returns its exit code; 0 for help that nobody reads to its end, which typer ends with 1."""
    try:
        return app(standalone_mode=False, prog_name=_program()) or 0
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            return 0
        raise


def _nowhere() -> TextIO:
    """A stream whose text is lost."""
    return Path(os.devnull).open("w", encoding="utf-8")


def _program() -> str:
    """The name that the program was started by."""
    return "mixformer" if Path(sys.argv[0]).stem == "mixformer" else "convert"


def _told(failure: Exception, *, debug: bool) -> int:
    """Prints what went wrong and returns the exit code."""
    from cli.terminal.failures import told

    return told(failure, _program(), debug=debug)
