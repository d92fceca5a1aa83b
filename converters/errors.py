"""The errors of a conversion, as one tree.

    ConversionError                 base; `exit_code` is what the command line returns
    ├── UsageError                  the request cannot be carried out (2)
    ├── Interrupted                 stopped while writing (130)
    └── Refused                     the input or the target does not allow this conversion (3)
        ├── UnsafeFile              a file is broken, unsafe or not what its name says
        ├── ConfigRefused           a config field is unknown, out of range, or the target cannot hold it
        ├── CoverageRefused         keys without a rule, keys missing
        ├── ShapeMismatch           a tensor has other sizes than the config says
        ├── NotInvertible           the conversion would lose data
        ├── NotProved               the plan does not use every element exactly once
        ├── TokenizerRefused        a form cannot hold a tokenizer; the model is written without it
        └── TargetRefused           the output cannot or must not be written

Context is added on the way up with `add_note`; the command line prints message and notes.
"""

# ruff: noqa: N818  (the names say what was found; that it is an error, the base class says)

from collections.abc import Iterable
from difflib import get_close_matches


class ConversionError(Exception):
    """Base of all errors of this package."""

    exit_code = 1


class UsageError(ConversionError):
    """The request contradicts itself or names something that does not exist."""

    exit_code = 2


class Interrupted(ConversionError):
    """The conversion was stopped while it wrote; what it had written is removed."""

    exit_code = 130


class Refused(ConversionError):
    """The input or the target does not allow this conversion; nothing was written."""

    exit_code = 3


class UnsafeFile(Refused):
    """A file is truncated, malformed, unsafe, or not what its name says."""


class ConfigRefused(Refused):
    """A config field is unknown, of a wrong type or range, or the target family cannot hold it."""


class CoverageRefused(Refused):
    """A tensor has no rule, or a rule has no tensor."""


class ShapeMismatch(Refused):
    """A tensor has another shape than config.json says."""


class NotInvertible(Refused):
    """Data that the conversion would lose, because the inverse of a move cannot give them."""


class HeadDiffers(NotInvertible):
    """config.json says that the head is tied to the embedding, but it is another tensor."""


class PluginRefused(Refused):
    """A plug-in brings a family that cannot be used."""


class NotProved(Refused):
    """The boxes of a plan overlap, leave gaps or reach beyond their tensors."""


class TokenizerRefused(Refused):
    """A form cannot hold a tokenizer. Whoever writes the form catches it and leaves the tokenizer out."""


class TargetRefused(Refused):
    """The output folder exists, cannot be written, or lies inside the source."""


def nearest(name: str, known: Iterable[str], alike: float = 0.75) -> str:
    """`(did you mean X?)` with a leading space, or an empty string if no name is so much alike (1 for the same)."""
    match = get_close_matches(name, list(known), n=1, cutoff=alike)
    return f" (did you mean {match[0]}?)" if match else ""


def shown(value: object, most: int = 120) -> str:
    """A value from a file as an error message has it: cut where it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
