"""What can go wrong while judging, as one tree. A model that computes the wrong function is no error but a FAIL."""

from __future__ import annotations

from typing import ClassVar


class GoldenError(Exception):
    """Base of every error of this package; ``exit_code`` is what a command line returns for it."""

    exit_code: ClassVar[int] = 3


class FolderError(GoldenError):
    """A model folder, its config or one of its weight files cannot be read or built."""


class UnusableReferenceError(GoldenError):
    """The reference loads, but cannot serve as one: keys are missing or its logits are not finite."""


class UnknownLevelError(GoldenError):
    """A level, dtype, form, device or attention backend was asked for by a name that does not exist."""

    exit_code: ClassVar[int] = 2


class UnverifiableError(GoldenError):
    """No verdict can be reached on this machine with what was given."""

    exit_code: ClassVar[int] = 5


class MissingReferenceError(UnverifiableError):
    """Neither a reference folder nor a golden file was given."""


class NondeterministicReferenceError(UnverifiableError):
    """Two runs of the reference on one prompt gave different logits."""


class MissingDeviceError(UnverifiableError):
    """The asked-for device or kernel is not on this machine."""


class GoldenFileError(GoldenError):
    """A golden file is absent, truncated, of another version, or not a golden file at all."""


class GoldenMismatchError(GoldenError):
    """A golden file was recorded from another model than the one it is used for."""
