"""Sizes of the heads of an attention layer, read from its keywords and the configuration, and checked."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedConfig

from mixformer.errors import invalid


@dataclass(frozen=True)
class HeadSizes:
    """Query heads, key-value heads, the width of a head, and how much of it rotates."""

    n_head: int
    n_head_kv: int
    head_dim: int
    rotary_dim: int


def head_sizes(
    config: PreTrainedConfig,
    n_head: int | None,
    n_head_kv: int | None,
    head_dim: int | None,
    rotary_dim: int | None,
    path: str,
) -> HeadSizes:
    """Keywords of the mixer where given, else the configuration's.

    Raises:
        ConfigurationError: unless n_head divides n_embd (where head_dim is not given), n_head_kv divides n_head, and
            rotary_dim is even and fits the head.
    """
    heads = _whole(f"{path}.n_head", config.n_head if n_head is None else n_head, 1)
    kv_heads = n_head_kv if n_head_kv is not None else (config.n_head_kv if config.n_head_kv is not None else heads)
    kv_heads = _whole(f"{path}.n_head_kv", kv_heads, 1)
    if heads % kv_heads:
        raise invalid(f"{path}.n_head_kv", kv_heads, f"a divisor of n_head = {heads}")
    if head_dim is None and config.n_embd % heads:
        raise invalid(f"{path}.n_head", heads, f"a divisor of n_embd = {config.n_embd}, unless head_dim is given")
    width = _whole(f"{path}.head_dim", config.n_embd // heads if head_dim is None else head_dim, 1)
    return HeadSizes(heads, kv_heads, width, _rotary_dim(config, rotary_dim, width, path))


def _rotary_dim(config: PreTrainedConfig, rotary_dim: int | None, head_dim: int, path: str) -> int:
    """The mixer's, 0 or less for none; else the configuration's, as in the SDK, even where the mixer's heads are wider.

    Whole heads of the configuration that are wider than the mixer's (the SDK fails in its forward pass) mean whole
    heads of the mixer.
    """
    if rotary_dim is None:
        whole = config.n_embd // config.n_head
        found, name = config.rotary_dim or whole, "rotary_dim"
        found = head_dim if found == whole > head_dim else found
    else:
        found, name = rotary_dim, f"{path}.rotary_dim"
    _whole(name, found, -1)
    if found > head_dim or (found > 0 and found % 2):
        raise invalid(name, found, f"an even number up to head_dim = {head_dim}")
    return max(found, 0)


def _whole(path: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise invalid(path, value, f"a whole number >= {least}")
    return value
