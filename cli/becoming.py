"""`convert SOURCE` alone: what a source is, and which families it could be converted to. Reads headers only."""

from shlex import quote
from typing import TYPE_CHECKING, Any

from cli.console import in_words
from cli.terminal.progress import Follower
from converters.counts import counted

if TYPE_CHECKING:
    from converters.checkpoint.checkpoint import Checkpoint
    from converters.plan.options import Options


def described(source: str, options: "Options", follow: Follower) -> tuple[list[str], dict[str, Any]]:
    """What a source is, as lines and as JSON.

    follow: is told which plan is made.

    Raises:
        ConversionError: it cannot be read, or no family fits.
    """
    from cli.hub.sources import headers_of
    from converters.checkpoint.opening import open_checkpoint
    from converters.family_of import family_of

    with headers_of(source) as (path, name):
        checkpoint = open_checkpoint(path, dequantize=True)  # headers only
        family = family_of(checkpoint.config)
        possible, refused = _targets(checkpoint, family, options, follow)
        content = {"path": name, "family": family, **_size(checkpoint)}
    content |= {"could_become": possible, "could_not": refused, "example": _example(source, family, possible)}
    return _lines(content), content


def _targets(
    checkpoint: "Checkpoint", family: str, options: "Options", follow: Follower
) -> tuple[list[str], dict[str, str]]:
    """Families that a plan can be made for, and why there is none for the others."""
    from converters.errors import ConversionError
    from converters.family import OURS, list_families
    from converters.plan.plan import make_plan

    possible, refused = [], {}
    targets = [name for name in (OURS, *(found.name for found in list_families())) if name != family]
    for k, to in enumerate(targets):
        follow(f"planning: {to}", k, len(targets))
        try:
            make_plan(checkpoint, family, to, options)
            possible.append(to)
        except ConversionError as reason:
            refused[to] = str(reason)
    return possible, refused


def _size(checkpoint: "Checkpoint") -> dict[str, Any]:
    from math import prod

    tensors = checkpoint.tensors.values()
    parameters = sum(prod(tensor.shape) for tensor in tensors)
    return {"parameters": parameters, "bytes": checkpoint.nbytes, "tensors": len(tensors)}


def _example(source: str, family: str, possible: list[str]) -> str:
    to = "llama" if family == "mixformer" and "llama" in possible else next(iter(possible), "")
    return f"convert {quote(source)} --to {to}" if to else ""


def _lines(content: dict[str, Any]) -> list[str]:
    size = (
        f"{content['parameters']:,} parameters, {in_words(content['bytes'])}, {counted(content['tensors'], 'tensor')}"
    )
    lines = [f"{content['path']}: {content['family']}", f"  {size}"]
    if content["could_become"]:
        lines += [f"  could become: {', '.join(content['could_become'])}", f"  for example: {content['example']}"]
    if content["could_not"]:
        lines.append(f"  could not become: {', '.join(content['could_not'])} (--json says why)")
    return lines
