"""The errors of this package, as one tree.

All of them are also the built-in exception that transformers and torch users catch for the same kind of fault.
"""

from __future__ import annotations

from collections.abc import Iterable


class MixFormerError(Exception):
    """Base of all errors of this package; catch it to catch them all."""


class ConfigurationError(MixFormerError, ValueError):
    """A configuration that contradicts itself or asks for something that does not exist."""


class UnknownKeywordError(ConfigurationError, TypeError):
    """A keyword that the registered class does not take."""


class ArchitectureTypeError(ConfigurationError, TypeError):
    """A part of `architecture` that has the wrong type."""


class InputError(MixFormerError, ValueError):
    """Arguments of a forward pass that contradict each other, the configuration or the cache."""


class AttentionBackendError(MixFormerError, ValueError):
    """An attention backend was asked for something it cannot compute."""


class MissingPackageError(MixFormerError, ImportError):
    """An optional package that was asked for is not installed or cannot be imported."""


class CheckpointError(MixFormerError, ValueError):
    """A checkpoint folder that cannot be read as a MixFormer."""


def invalid(path: str, found: object, expected: str) -> ConfigurationError:
    """The error for a value at `path` (dotted, as in `architecture[3].mixer.window_size`)."""
    return ConfigurationError(f"`{path}` must be {expected}, but got {found!r}.")


def unknown_name(path: str, found: object, known: Iterable[str]) -> ConfigurationError:
    """The error for a registry name that does not exist."""
    return ConfigurationError(f"`{path}` must be one of {list(known)}, but got {found!r}.")


def unknown_keywords(path: str, found: Iterable[str], known: Iterable[str]) -> UnknownKeywordError:
    """The error for keywords that the class registered under `path` does not take."""
    names = ", ".join(f"`{path}.{name}`" for name in sorted(found))
    return UnknownKeywordError(f"unknown keyword {names}: `{path}` takes {sorted(known)}.")
