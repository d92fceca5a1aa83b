"""What both blocks share: calling a mixer or an MLP, whatever it takes and returns."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def first(output: Tensor | tuple[Any, ...]) -> Tensor:
    """The hidden states of a module that may return them as the head of a tuple."""
    return output[0] if isinstance(output, tuple) else output


def supports_cache(mixer: nn.Module) -> bool:
    """Whether decoding token by token onto a cache equals a full pass for `mixer`.

    A mixer says so with an attribute `supports_cache`; one that says nothing sees only the tokens of the current pass.
    """
    return bool(getattr(mixer, "supports_cache", False))
