"""`convert push DIR REPO`: a folder that has passed, to the Hub, in one commit."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import Debug, Device, Json, Quiet, show

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The output of a conversion.")]
Repo = Annotated[str, typer.Argument(metavar="REPO", help="Where to: org/name.")]
Revision = Annotated[str, typer.Option("--revision", help="The branch; made if there is none.")]
CreatePr = Annotated[bool, typer.Option("--create-pr", help="Open a pull request; a token that can read is enough.")]
Public = Annotated[bool, typer.Option("--public", help="Make a new repo public [default: private].")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; nothing is written, no token needed.")]
Unverified = Annotated[bool, typer.Option("--allow-unverified", help="Push without a PASS, marked as such.")]
Again = Annotated[bool, typer.Option("--judge-again", help="Run parity now, and take no recorded verdict on trust.")]
Reference = Annotated[
    str | None, typer.Option("--reference", help="With --judge-again: the source, if the record names no repo.")
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds without a byte until a try is given up.")]


def push(
    folder: Folder,
    repo: Repo,
    revision: Revision = "main",
    create_pr: CreatePr = False,
    public: Public = False,
    dry_run: DryRun = False,
    allow_unverified: Unverified = False,
    judge_again: Again = False,
    reference: Reference = None,
    device: Device = "cpu",
    timeout: Timeout = 100.0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Push a converted folder to the Hub in one commit, if it has passed. Exit code 5: it has not; 6: the Hub.

    Stale weights in the repo go with the same commit, everything else there stays. The verdict is read from
    conversion.json and holds for exactly the files that were judged. This guards against accidents, not against the
    owner of the folder; --judge-again takes nothing on trust.
    """
    from cli.hub.addresses import repo_of
    from cli.hub.judging import judge_again as judge
    from cli.hub.outgoing import cargo
    from cli.hub.pushing import Target, run
    from cli.hub.report import as_content, as_lines

    target = Target(repo_of(repo).repo, _branch(repo, revision, create_pr=create_pr), public, create_pr)
    if judge_again:
        judge(folder, reference, device=device, quiet=quiet or json)
    sent = cargo(folder, allow_unverified=allow_unverified)
    done = run(sent, target, dry_run=dry_run, timeout=timeout, quiet=quiet or json)
    show(as_lines(done, sent, dry_run=dry_run), as_content(done, sent), as_json=json, quiet=quiet)


def _branch(repo: str, revision: str, *, create_pr: bool) -> str:
    """The branch that is pushed to: `--revision`, or what stands behind an @.

    Raises:
        UsageError: two branches are named, or a pull request is to be opened on another than the main one.
    """
    from cli.hub.addresses import repo_of
    from converters.errors import UsageError

    named = repo_of(f"{repo.partition('@')[0]}@{revision}").revision or "main"
    behind = repo_of(repo).revision
    if behind and named not in ("main", behind):
        raise UsageError(f"{repo} names one branch and --revision {revision} another")
    branch = behind or named
    if create_pr and branch != "main":
        raise UsageError(f"pull requests are opened on the main branch; leave {branch} out, or --create-pr")
    return branch
