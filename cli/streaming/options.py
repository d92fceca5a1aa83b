"""The options of `convert FAMILY` that belong to `--stream`."""

from pathlib import Path
from typing import Annotated

import typer

Stream = Annotated[
    bool, typer.Option("--stream", help="Fetch a repo's weights by range while converting; never all of it is on disk.")
]
Golden = Annotated[
    Path | None, typer.Option("--golden", help="With --stream: judge by this golden file instead of fetching again.")
]


def check_streaming(source: str | None, golden: Path | None, *, stream: bool) -> None:
    """Refuses options that do not go together.

    Raises:
        typer.BadParameter: naming them.
    """
    if golden and not stream:
        raise typer.BadParameter("--golden goes with --stream; else judge by it with: convert parity")
    if stream and not source:
        raise typer.BadParameter("--stream needs a SOURCE on the Hub, org/name")
