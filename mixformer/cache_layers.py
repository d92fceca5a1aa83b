"""Which layer of a cache belongs to which attention, and whether a pass has filled them."""

from __future__ import annotations

from itertools import count

from torch import Tensor, nn
from transformers.cache_utils import Cache

from mixformer.blocks.branches import supports_cache
from mixformer.blocks.mixers.mha import MHA


def attentions(model: nn.Module) -> list[MHA]:
    """All `MHA` of a model, in order."""
    return [module for module in model.modules() if isinstance(module, MHA)]


def number_cache_layers(model: nn.Module) -> None:
    """Give every `MHA` a layer of the cache, from 0 without gaps: transformers asks layer 0 how long the cache is.

    A mixer of another package that keeps keys and values of its own appends them under its `layer_idx`; that is left
    to it.
    """
    others = {
        module.layer_idx
        for module in model.modules()
        if isinstance(getattr(module, "layer_idx", None), int) and supports_cache(module) and not attentions(module)
    }
    free = (number for number in count() if number not in others)
    for attention, number in zip(attentions(model), free, strict=False):
        attention.cache_idx = number


def guesses_cache_support(model: nn.Module) -> bool:
    """Whether a block or mixer is only taken to support a cache (`with_cache_support`)."""
    return any(getattr(module, "guessed_cache_support", False) for module in model.modules())


def unfilled_layer(model: nn.Module, cache: Cache, length: int | Tensor) -> int | None:
    """The first layer of a cache that does not hold `length` tokens after a pass; None if all do."""
    layers = (attention.cache_idx for attention in attentions(model))
    return next((layer for layer in layers if int(cache.get_seq_length(layer)) != length), None)
