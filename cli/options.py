"""The options of a conversion and of its plan, as the request that they make."""

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from converters.plan.options import Options

FORMATS = ("safetensors", "native", "gguf")


def options_of(**said: Any) -> "Options":
    """What the options of a command ask of a plan, by their names; a list that was not given is empty."""
    from converters.plan.options import Options

    lists = {name: tuple(said[name] or ()) for name in ("waive", "drop")}
    return Options(**{**said, **lists})


def check_format(format: str) -> None:
    """Raises typer.BadParameter for a value of --format that there is not."""
    if format not in FORMATS:
        raise typer.BadParameter(f"--format is {format!r}, expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
