"""`convert diff A B`: whether two checkpoints are equal, also across families."""

from functools import partial
from typing import Annotated

import typer

from cli.console import All, Debug, Json, NHead, Quiet, ValueResidual, show
from cli.terminal.folding import natural
from cli.terminal.progress import following
from converters.counts import counted

One = Annotated[str, typer.Argument(metavar="A", help="A model folder, or org/name on the Hub.")]
Other = Annotated[str, typer.Argument(metavar="B", help="Another model, of the same or another family.")]
SHOWN = 40


def diff(
    one: One,
    other: Other,
    n_head: NHead = None,
    value_residual: ValueResidual = None,
    all: All = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare two checkpoints: tensor bytes, config, side files. Exit code 0 if they are equal, 4 if not.

    Sharding and conversion.json may differ. Checkpoints of different families are compared through their mapping.
    """
    from cli.hub.sources import folder_of
    from converters.alignment import equal_folders
    from converters.checkpoint.users_word import HEADS, VALUES

    wanted = not quiet and not json
    with HEADS.said(n_head), VALUES.said(value_residual), following("reading headers", wanted=wanted) as follow:
        found = equal_folders(folder_of(one), folder_of(other), partial(follow, "comparing, bytes"))
    shown = sorted(found, key=natural)[: None if all else SHOWN]
    lines = [f"{counted(len(found), 'difference')}:", *shown] if found else [f"{one} and {other} are equal"]
    if len(found) > len(shown):
        lines.append(f"... and {len(found) - len(shown)} more (--all lists them)")
    show(lines, {"equal": not found, "differences": found}, as_json=json, quiet=quiet)
    raise typer.Exit(4 if found else 0)
