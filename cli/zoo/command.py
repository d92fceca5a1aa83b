"""`convert zoo FILE`: converts, judges and pushes what a list names; failures do not stop it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import Debug, Json, Quiet, error, show

if TYPE_CHECKING:
    from cli.zoo.entries import Entry
    from cli.zoo.outcome import Outcome

File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="A list of models in TOML: [[model]] with source, to, output, push, options."),
]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="Models at a time; each has its share of memory and threads.")]
Engine = Annotated[str, typer.Option("--engine", help="processes, or ray: tasks of a Ray cluster that runs already.")]
Report = Annotated[
    Path | None, typer.Option("--report", help="Path of the report without .json, .md, .html [default: FILE-report].")
]
Html = Annotated[
    Path | None, typer.Option("--html", help="Folder for a static page of all models, with a report of each.")
]
ENGINES = ("processes", "ray")


def zoo(
    file: File,
    jobs: Jobs = 1,
    engine: Engine = "processes",
    report: Report = None,
    html: Html = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Convert, judge and push a list of models. Failures do not stop it; a new run does what is missing or has changed.

    Exit code: 0 if all went well, 4 if a model failed parity, else that of the first that did not go well.
    """
    from cli.zoo.entries import read_zoo
    from cli.zoo.report import content, summary, write_report

    if engine not in ENGINES:
        raise typer.BadParameter(f"--engine is {engine!r}, expected {' or '.join(ENGINES)}")
    entries, stem = read_zoo(file), report or file.with_name(f"{file.stem}-report")
    if not stem.absolute().parent.is_dir():
        raise typer.BadParameter(f"--report: there is no folder {stem.absolute().parent}")
    ended: list[Outcome] = []
    for ended in _so_far(engine, entries, file.absolute().parent, jobs, quiet=quiet or json):
        files = write_report(stem, ended)  # a run that is interrupted leaves what it knows
    if html:
        from cli.zoo.pages import write_pages

        write_pages(ended, file.absolute().parent, html)
    lines = [summary(ended), *(f"  {o.source}: {o.status}: {o.error}" for o in ended if o.code)]
    show([*lines, f"  report: {', '.join(map(str, files))}"], content(ended), as_json=json, quiet=quiet)
    codes = [outcome.code for outcome in ended if outcome.code]
    raise typer.Exit(4 if 4 in codes else next(iter(codes), 0))


def _so_far(
    engine: str, entries: Sequence["Entry"], home: Path, jobs: int, *, quiet: bool
) -> Iterator[list["Outcome"]]:
    """All outcomes that are known, in the order of the list, each time that a model has ended; a line tells which."""
    if engine == "ray":
        from cli.zoo.ray_engine import outcomes
    else:
        from cli.zoo.running import outcomes
    found: dict[int, Outcome] = {}
    for k, outcome in outcomes(entries, home, jobs):
        found[k] = outcome
        if not quiet:
            done = " (up to date)" if outcome.up_to_date else ""
            error(f"{len(found)}/{len(entries)} {outcome.source}: {outcome.status}{done}", prefix="")
        yield [found[k] for k in sorted(found)]
