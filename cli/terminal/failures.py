"""What is printed for an exception: a sentence on stderr, with --json an object on stdout too, and the exit code."""

import sys
from collections.abc import Sequence
from typing import Any

from cli.console import Printed, error, show_json
from cli.terminal.usage import is_usage_error, usage_hint, usage_sentence

FAULT = "this is a fault of the program; please report it with the output of --debug"


def told(failure: Exception, program: str, *, debug: bool) -> int:
    """Prints what went wrong and returns the exit code."""
    if type(failure).__name__ == "NoArgsIsHelpError":
        print(failure, file=sys.stderr)
        return 2
    code, sentence, notes = _sentence(failure, program, debug=debug)
    error(sentence)
    for note in notes:
        error(f"  {note}", prefix="")
    if Printed.wanted and not Printed.json:
        show_json(failure_content(type(failure).__name__, sentence, notes, code) | getattr(failure, "content", {}))
    return code


def failure_content(kind: str, sentence: str, notes: Sequence[str], code: int) -> dict[str, Any]:
    """An error as JSON: the sentence, what kind of error it is, the notes beside it and the exit code."""
    return {"error": sentence, "type": kind, "notes": list(notes), "exit_code": code}


def _sentence(failure: Exception, program: str, *, debug: bool) -> tuple[int, str, list[str]]:
    """Exit code, sentence and the lines below it."""
    if is_usage_error(failure):
        hint = usage_hint(failure, [program, *sys.argv[1:2]])
        return 2, usage_sentence(failure), [hint.strip()]
    if isinstance(failure, MemoryError):
        return 3, "memory ran out; nothing was written", []
    if isinstance(failure, OSError):
        return 3, f"{failure.filename or 'a file'}: {failure.strerror or failure}", []
    notes = [str(note) for note in getattr(failure, "__notes__", [])]
    if hasattr(failure, "exit_code"):
        return int(failure.exit_code), str(failure), notes
    return 1, f"unexpected {type(failure).__name__}: {failure}", [*notes, *([] if debug else [FAULT])]
