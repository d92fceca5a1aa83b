"""Progress on a terminal: what runs, how much of it is done, and the time left; each level as it is reached.

On a pipe or in a file there is none. It goes to stderr, so that results can be read from stdout.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cli.console import in_words

if TYPE_CHECKING:
    from golden import LevelResult

Advance = Callable[[int], None]


class Follower:
    """Is told what a run does, and shows nothing."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """So much of what runs is done; a total of 0 is not known."""

    def reached(self, level: "LevelResult") -> None:
        """A level is judged."""


class _OnTerminal(Follower):
    """Shows what runs in one line, and each level above it."""

    def __init__(self, bar: Any, label: str) -> None:
        self.bar, self.kind = bar, label
        self.task = bar.add_task(label, total=None, told="")

    def __call__(self, what: str, done: int, total: int) -> None:
        kind = what.partition(":")[0]  # the time left is that of all prompts, whatever their names
        if kind != self.kind:
            self.kind = kind
            self.bar.reset(self.task)
        told = _told(what, done, total)
        self.bar.update(self.task, description=what, total=total or None, completed=done, told=told)

    def reached(self, level: "LevelResult") -> None:
        from rich.text import Text

        from cli.terminal.colours import coloured
        from golden.report import level_line

        line = "  " + level_line(level)
        self.bar.console.print(coloured(line, Text(line)), soft_wrap=True)


def _told(what: str, done: int, total: int) -> str:
    """How much is done, in words."""
    if not total:
        return ""
    return f"{in_words(done)} of {in_words(total)}" if "bytes" in what else f"{done + 1} of {total}"


@contextmanager
def following(label: str, *, wanted: bool) -> Iterator[Follower]:
    """Shows what runs inside, if stderr is a terminal.

    label: what runs until more is told.
    """
    if not wanted or not sys.stderr.isatty():
        yield Follower()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _OnTerminal(bar, label)


@contextmanager
def progress_bar(label: str, total: int, *, wanted: bool) -> Iterator[Advance]:
    """A bar with bytes, rate and time left on stderr, if that is a terminal. Yields the function that advances it."""
    if not wanted or not sys.stderr.isatty():
        yield lambda nbytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(label), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda nbytes: bar.advance(task, nbytes)
