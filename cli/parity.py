"""`convert parity CANDIDATE --reference DIR`: the verdict."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import Debug, Device, Json, Quiet, error, show

if TYPE_CHECKING:
    from golden import Verdict

Candidate = Annotated[Path, typer.Argument(help="The model folder to judge.")]
Reference = Annotated[Path | None, typer.Option("--reference", help="The model folder it should equal in function.")]
Levels = Annotated[str | None, typer.Option("--levels", help="Levels to judge, such as L0,L1,L2.")]
Report = Annotated[Path | None, typer.Option("--report", help="Write the verdict to a file (.json).")]


def parity(
    candidate: Candidate,
    reference: Reference = None,
    levels: Levels = None,
    device: Device = "cpu",
    report: Report = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Judge whether a converted model computes what its reference computes. Exit code 0 PASS, 4 FAIL, 5 UNVERIFIED."""
    if reference is None:
        raise typer.BadParameter("--reference DIR is needed: what should the candidate equal?")
    wanted = [level.strip().upper() for level in levels.split(",")] if levels else None
    verdict = judged(candidate, reference, device=device, quiet=quiet or json, levels=wanted)
    if report:
        _write_report(report, verdict.to_json())
    from golden import verdict_lines

    show(verdict_lines(verdict), verdict.to_json(), as_json=json, quiet=quiet)
    raise typer.Exit(exit_code(verdict))


def judged(candidate: Path, reference: Path, *, device: str, quiet: bool, levels: list[str] | None = None) -> "Verdict":
    """The verdict on a candidate, by running both models."""
    if not quiet:
        error("judging by running both models ...", prefix="")
    from golden import compare

    return compare(candidate, reference, levels=levels, device=device)


def exit_code(verdict: "Verdict") -> int:
    """0 PASS, 4 FAIL, 5 anything else."""
    return {"PASS": 0, "FAIL": 4}.get(str(verdict.verdict), 5)


def _write_report(path: Path, verdict: dict[str, Any]) -> None:
    import json

    from converters.errors import UsageError
    from converters.output import replace_file

    if path.suffix != ".json":
        raise UsageError(f"a report is written as .json, not {path.suffix or 'without a suffix'}")
    replace_file(path, (json.dumps(verdict, indent=2) + "\n").encode())
