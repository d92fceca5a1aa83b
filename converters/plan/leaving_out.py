"""`--drop PATTERN`: tensors that are no part of the model, such as the value head of a trainer, left out by name."""

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from converters.checkpoint.checkpoint import Checkpoint
from converters.errors import CoverageRefused
from converters.plan.known_buffers import used
from converters.plan.model import Model
from converters.plan.rules import TargetTensor


def named(source: Checkpoint, patterns: Sequence[str], needed: Collection[str]) -> list[str]:
    """The keys that patterns name, by the names of their family or as they are stored.

    Raises:
        CoverageRefused: a pattern names none, or one that is a part of the model.
    """
    found: list[str] = []
    for pattern in patterns:
        keys = _matching(source, pattern)
        if not keys:
            raise CoverageRefused(f"--drop {shlex.quote(pattern)}: there is no such tensor")
        if parts := sorted(set(keys) & set(needed)):
            raise CoverageRefused(f"--drop {shlex.quote(pattern)}: {parts[0]} is a part of the model")
        found += keys
    return list(dict.fromkeys(found))


def _matching(source: Checkpoint, pattern: str) -> list[str]:
    names = {key: (key, tensor.name) for key, tensor in source.tensors.items()}
    return [key for key, both in names.items() if any(fnmatchcase(name, pattern) for name in both)]


def found_patterns(source: Checkpoint, patterns: Sequence[str]) -> tuple[str, ...]:
    """Those patterns that name a tensor."""
    return tuple(pattern for pattern in patterns if _matching(source, pattern))


def without(ours: Model, patterns: Sequence[str], needed: Mapping[str, object]) -> Model:
    """A MixFormer without the tensors that patterns name."""
    keys = named(ours.source, patterns, needed)
    tensors = {key: tensor for key, tensor in ours.tensors.items() if key not in keys}
    checks = (*ours.checks, *(used(ours.source.tensors[key]) for key in keys))
    return replace(ours, tensors=tensors, checks=checks, left_out=tuple(keys))


def remaining(given: Mapping[str, TargetTensor], keys: Collection[str]) -> dict[str, TargetTensor]:
    """Tensors without these."""
    return {key: tensor for key, tensor in given.items() if key not in keys}
