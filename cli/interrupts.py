"""Ctrl-C: at any moment, also during imports, the program ends with exit code 130 and one line.

An interrupt is a KeyboardInterrupt wherever the program stands. Imported packages may turn it into another error, and
Python drops it in callbacks that cannot raise; so it is remembered, and in the second case sent again.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 130
AGAIN = 0.05  # seconds


class _State:
    """Whether Ctrl-C was pressed, and what is said then."""

    happened = False
    told = False
    said = "interrupted; no half-written file is left"


@contextmanager
def saying(words: str) -> Iterator[None]:
    """What an interrupt inside of the block says."""
    before, _State.said = _State.said, words
    yield  # without `finally`: after an interrupt the words are still to be said
    _State.said = before


def pressed() -> bool:
    """Whether Ctrl-C was pressed."""
    return _State.happened


def guarded(run: Callable[[], object]) -> None:
    """Runs the program, and exits with 130 and one line if Ctrl-C ended it, whatever became of that on the way."""
    _listen()
    try:
        run()
    except BaseException as failure:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done but to say it
        if not _State.happened and not isinstance(failure, KeyboardInterrupt):
            raise
        if not _State.told:
            print(f"error: {_State.said}", file=sys.stderr)
            _tell_scripts()
        _State.told = True
        sys.exit(EXIT_CODE)


def _tell_scripts() -> None:
    """The same as JSON, for those who asked for it."""
    if "--json" in sys.argv:
        from cli.console import Printed, show_json
        from cli.terminal.failures import failure_content

        if not Printed.json:
            show_json(failure_content("Interrupted", _State.said, (), EXIT_CODE))


def _listen() -> None:
    """Takes the signal of Ctrl-C; does nothing in a thread, or where the signal is ignored (nohup)."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    try:
        signal.signal(signal.SIGINT, _interrupt)
    except ValueError:  # a thread
        return
    signal.signal(signal.SIGALRM, _interrupt)
    default = sys.unraisablehook

    def again(unraisable: "sys.UnraisableHookArgs") -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
        else:
            default(unraisable)

    sys.unraisablehook = again


def _interrupt(number: int, frame: FrameType | None) -> None:
    _State.happened = True
    raise KeyboardInterrupt
