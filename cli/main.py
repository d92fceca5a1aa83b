"""The command line: the app with its commands, and the error that is printed for an exception.

Every command imports what it needs when it runs, so that `convert --help` starts at once and never loads torch.
"""

import io
import os
import sys
from functools import partial
from pathlib import Path

import typer

from cli import conversion, diff, families, golden_files, inspect, interrupts, parity, plan, push
from cli.console import error
from cli.family_verbs import EPILOG, Root
from cli.usage import is_usage_error, usage_hint, usage_sentence
from cli.words import Verb
from cli.zoo import command as zoo

app = typer.Typer(
    cls=Root,
    help="Convert model checkpoints between MixFormer and other families without losing a bit, and prove it.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

command = partial(app.command, cls=Verb)

command(
    "mixformer",
    help="Convert a MixFormer checkpoint to another family.",
    epilog="For example: convert mixformer ./m --to llama",
)(conversion.verb("mixformer"))
command("plan", epilog="For example: convert plan llama ./my-llama --to mixformer")(plan.plan)
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text
    asked = [command for command in app.registered_commands if [command.name] == sys.argv[1:2]]
    app.registered_commands = asked or app.registered_commands  # else typer would read the options of all
    try:
        code = app(standalone_mode=False, prog_name=_program()) or 0
        if code == interrupts.EXIT_CODE:
            raise KeyboardInterrupt
        sys.exit(code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # a closed pipe is no error
        sys.exit(0)
    except Exception as failure:
        if interrupts.pressed():
            raise  # whatever became of it, the cause is Ctrl-C
        if debug:
            import traceback

            traceback.print_exc()
        sys.exit(_told(failure, debug=debug))


def _program() -> str:
    """The name that the program was started by."""
    return "mixformer" if Path(sys.argv[0]).stem == "mixformer" else "convert"


def _told_usage(misuse: Exception) -> int:
    """Prints what is wrong with the command line; the help where a command was given no arguments."""
    if type(misuse).__name__ == "NoArgsIsHelpError":
        print(misuse, file=sys.stderr)
        return 2
    error(usage_sentence(misuse))
    error(usage_hint(misuse, [_program(), *sys.argv[1:2]]), prefix="")
    return 2


def _told(failure: Exception, *, debug: bool) -> int:
    """Prints what went wrong and returns the exit code."""
    if is_usage_error(failure):
        return _told_usage(failure)
    if isinstance(failure, MemoryError):
        error("memory ran out; nothing was written")
        return 3
    if isinstance(failure, OSError):
        error(f"{failure.filename or 'a file'}: {failure.strerror or failure}")
        return 3
    code = getattr(failure, "exit_code", 1)
    expected = hasattr(failure, "exit_code")
    notes = [] if expected else ["this is a fault of the program; please report it with the output of --debug"]
    error(str(failure) if expected else f"unexpected {type(failure).__name__}: {failure}")
    for note in [*getattr(failure, "__notes__", []), *([] if debug else notes)]:
        error(f"  {note}", prefix="")
    return int(code)
