"""Every way a conversion can be refused, as one tree.

    ConversionError                 base; `exit_code` is what the command line returns
    ├── UsageError                  the request itself makes no sense (2)
    ├── Interrupted                 stopped while writing (130)
    └── Refused                     the request is clear, the input or the target is not fit (3)
        ├── UnsafeFile              a file is broken, hostile or not what its name says
        ├── ConfigRefused           a config field is unknown, out of range or cannot be expressed
        ├── CoverageRefused         keys without a rule, keys missing
        ├── ShapeMismatch           a tensor has other sizes than the config says
        ├── NotInvertible           data lie outside what the inverse of a move can take
        ├── NotProved               the plan does not cover both sides exactly once
        └── TargetRefused           the output cannot or must not be written

Context is added on the way up with `add_note`; the command line prints message and notes.
"""

# ruff: noqa: N818  (the names say what was found, not that it is an error: the base class says that)

from collections.abc import Iterable
from difflib import get_close_matches


class ConversionError(Exception):
    """Base of everything this package raises on purpose."""

    exit_code = 1


class UsageError(ConversionError):
    """The request contradicts itself or names something that does not exist."""

    exit_code = 2


class Interrupted(ConversionError):
    """The conversion was stopped while it wrote; what it had written is removed."""

    exit_code = 130


class Refused(ConversionError):
    """The input or the target is not fit for this conversion; nothing was written."""

    exit_code = 3


class UnsafeFile(Refused):
    """A file is truncated, malformed, hostile, or not what its name says."""


class ConfigRefused(Refused):
    """A config field is unknown, of a wrong type or range, or cannot be expressed on the other side."""


class CoverageRefused(Refused):
    """Tensors without a rule, or rules without a tensor."""


class ShapeMismatch(Refused):
    """A tensor's shape differs from what the config demands."""


class NotInvertible(Refused):
    """Data lie outside the image of a move, so its inverse would lose them."""


class HeadDiffers(NotInvertible):
    """A head that is said to be tied to the embedding is another tensor."""


class PluginRefused(Refused):
    """A package brings a family that cannot be used."""


class NotProved(Refused):
    """A plan whose boxes overlap, leave gaps or leave their tensors."""


class TargetRefused(Refused):
    """The output folder exists, cannot be written, or lies inside the source."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`(did you mean X?)` with a leading space, or an empty string if nothing is close."""
    match = get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f" (did you mean {match[0]}?)" if match else ""
