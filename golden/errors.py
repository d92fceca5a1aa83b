"""The errors of judging. A model that computes the wrong function is not an error: its verdict is FAIL."""

from __future__ import annotations

from typing import ClassVar


class GoldenError(Exception):
    """Base of every error of this package; ``exit_code`` is what a command line returns for it."""

    exit_code: ClassVar[int] = 3


class FolderError(GoldenError):
    """A model folder, its config or one of its weight files cannot be read as a checkpoint."""


class UnusableReferenceError(GoldenError):
    """The reference loads, but nothing can be compared with it: keys are missing or its logits are not finite."""


class UnknownLevelError(GoldenError):
    """The name of a level, dtype, form, device or attention backend is not known."""

    exit_code: ClassVar[int] = 2


class UnverifiableError(GoldenError):
    """No verdict is possible on this machine with the files and options given."""

    exit_code: ClassVar[int] = 5


class MissingReferenceError(UnverifiableError):
    """Neither a reference folder nor a golden file was given."""


class NondeterministicReferenceError(UnverifiableError):
    """Two runs of the reference on one prompt gave different logits."""


class MissingDeviceError(UnverifiableError):
    """This machine does not have the device or the kernel that was asked for."""


class CannotBuildError(UnverifiableError):
    """A model folder can be read, and what it says makes no model that can be built on this machine."""


class MissingClassError(UnverifiableError):
    """The transformers that is installed has no class for a model."""


class CannotRunError(UnverifiableError, RuntimeError):
    """A model was built and its forward pass fails. Levels take that of a candidate for a fault, as a RuntimeError."""


class NoMemoryError(UnverifiableError):
    """Memory ran out while a model was built or run."""


class GoldenFileError(GoldenError):
    """A golden file is missing, truncated, of another version, or no golden file."""


class GoldenMismatchError(GoldenError):
    """A golden file was recorded from another model than the one it is used for."""
