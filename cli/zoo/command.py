"""`convert zoo FILE`: converts, judges and pushes what a list names; failures do not stop it."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import Debug, Json, Quiet, error, show

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
    if engine == "ray":
        from cli.zoo.ray_engine import outcomes
    else:
        from cli.zoo.running import outcomes
    found = {}
    for k, outcome in outcomes(entries, file.absolute().parent, jobs):
        found[k] = outcome
        files = write_report(stem, [found[k] for k in sorted(found)])  # a run that is ended leaves what it knows
        if not quiet and not json:
            done = " (up to date)" if outcome.up_to_date else ""
            error(f"{len(found)}/{len(entries)} {outcome.source}: {outcome.status}{done}", prefix="")
    ended = [found[k] for k in sorted(found)]
    if html:
        from cli.zoo.pages import write_pages

        write_pages(ended, file.absolute().parent, html)
    lines = [summary(ended), *(f"  {o.source}: {o.status}: {o.error}" for o in ended if o.code)]
    show([*lines, f"  report: {', '.join(map(str, files))}"], content(ended), as_json=json, quiet=quiet)
    codes = [outcome.code for outcome in ended if outcome.code]
    raise typer.Exit(4 if 4 in codes else next(iter(codes), 0))
