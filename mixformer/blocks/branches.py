"""Calling modules of other packages: what they take, what they return, and whether they decode onto a cache."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

CACHE = "past_key_values"
# Modules of torch that look at other positions and keep nothing of them for the next pass.
FORGETFUL = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase, nn.MultiheadAttention)


def first(output: Tensor | tuple[Any, ...]) -> Tensor:
    """The hidden states of a module that may return them as the head of a tuple."""
    return output[0] if isinstance(output, tuple) else output


def keywords_of(module: nn.Module) -> frozenset[str] | None:
    """Names of the keyword arguments that the forward of a module takes, None if it takes any."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind is not inspect.Parameter.VAR_POSITIONAL)


def taken(keywords: Mapping[str, Any], names: frozenset[str] | None) -> Mapping[str, Any]:
    """Those of the keywords that a module takes, by what `keywords_of` says of it."""
    return keywords if names is None else {name: value for name, value in keywords.items() if name in names}


def supports_cache(module: nn.Module) -> bool:
    """Whether decoding token by token onto a cache equals a full pass, as a block or mixer says itself."""
    return bool(getattr(module, "supports_cache", False))


def with_cache_support(module: nn.Module) -> nn.Module:
    """A block or mixer that says whether it supports a cache, with an attribute `supports_cache`.

    One that comes without is taken to support it where its forward names `past_key_values`, or hands all keywords on to
    parts that support it. A part that does not, or a convolution, speaks against both. A model holds such a guess
    against the cache itself after a pass.
    """
    if hasattr(module, "supports_cache"):
        return module
    parts = [part for part in module.modules() if part is not module]
    said = [supports_cache(part) for part in parts if hasattr(part, "supports_cache")]
    inside = {id(p) for part in parts if supports_cache(part) for p in part.modules()}
    forgetful = any(isinstance(part, FORGETFUL) and id(part) not in inside for part in parts)
    names = keywords_of(module)
    hands_on = bool(said) if names is None else CACHE in names
    module.supports_cache = hands_on and all(said) and not forgetful
    module.guessed_cache_support = module.supports_cache
    return module
