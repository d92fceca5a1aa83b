"""Packed samples: several of them in one row, where attention must not cross from one to the next."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from mixformer.errors import InputError

# Where a cache remembers the samples and separators of its tokens, for callers who pass new tokens only.
_CACHED = "mixformer_sample_ids"
# Where it holds the samples of the pass that runs, for layers that are handed the cache and not the samples.
_OF_PASS = "mixformer_samples_of_pass"


def sample_ids_of(input_ids: Tensor, separator: int) -> Tensor:
    """Number the samples of each row, (B, S) from 1; a separator is the last token of its sample."""
    ends = (input_ids == separator).long()
    return ends.cumsum(-1) - ends + 1


def checked_sample_ids(sample_ids: Tensor) -> Tensor:
    """`sample_ids` as they are.

    Raises:
        InputError: if the numbers of a row are negative or fall, padding (0) left out: a sample is one stretch.
    """
    if not torch.compiler.is_compiling():
        falls = (sample_ids != 0) & (sample_ids < sample_ids.cummax(-1).values)
        if bool(falls.any()) or bool((sample_ids < 0).any()):
            raise InputError("sample_ids must be 0 for padding, and else positive numbers that never fall along a row.")
    return sample_ids


def sample_ids_from_boundaries(cu_seqlens: Tensor, batch: int, length: int) -> Tensor:
    """Number the samples given by cumulative lengths over the flattened batch, (B, S) from 1.

    Raises:
        InputError: unless cu_seqlens runs from 0 to B * S without descending and has a boundary at the end of each row.
    """
    bounds = cu_seqlens.flatten().long()
    if not torch.compiler.is_compiling():
        _check_boundaries(bounds, batch, length)
    tokens = torch.arange(batch * length, device=bounds.device)
    return torch.bucketize(tokens, bounds[1:], right=True).view(batch, length) + 1


def _check_boundaries(bounds: Tensor, batch: int, length: int) -> None:
    row_ends = torch.arange(batch + 1, device=bounds.device) * length
    ascending = bool((bounds.diff() >= 0).all()) and bool(torch.isin(row_ends, bounds).all())
    if not ascending or int(bounds[0]) != 0 or int(bounds[-1]) != batch * length:
        raise InputError(
            f"cu_seqlens must ascend from 0 to {batch * length} with a boundary at every multiple of {length} "
            f"(the end of a row), but got {bounds.tolist()}."
        )


def boundaries_of(sample_ids: Tensor) -> Tensor:
    """Cumulative lengths over the flattened batch, int32, of samples numbered as (B, S): the way back.

    A compiled graph has no shapes that depend on values: there it holds a boundary before every token, most of them
    between empty samples.
    """
    starts = torch.ones_like(sample_ids, dtype=torch.bool)
    starts[:, 1:] = sample_ids[:, 1:] != sample_ids[:, :-1]
    index = torch.arange(sample_ids.numel(), device=sample_ids.device)
    bounds = torch.where(starts.flatten(), index, 0).cummax(0).values
    if not torch.compiler.is_compiling():
        bounds = torch.unique_consecutive(bounds)
    return torch.nn.functional.pad(bounds, (0, 1), value=sample_ids.numel()).to(torch.int32)


def remembered_samples(input_ids: Tensor, separator: int, cache: Cache | None) -> Tensor:
    """Samples of new tokens behind those that the cache has seen, (B, past + S); the cache remembers them.

    Raises:
        InputError: if the cache holds tokens without their samples.
    """
    new = sample_ids_of(input_ids, separator)
    if cache is None:
        return new
    past = int(cache.get_seq_length())
    state = getattr(cache, _CACHED, None)  # (samples, which tokens are separators)
    if past and state is None:
        raise InputError("cross_sample_token_id is set and the cache does not know its samples: give sample_ids.")
    samples, ends = new, input_ids == separator
    if past:
        old_samples, old_ends = state[0][:, :past], state[1][:, :past]
        current = old_samples[:, -1:] + old_ends[:, -1:].long()  # the sample that the next token belongs to
        samples = torch.cat((old_samples, new + current - 1), dim=1)
        ends = torch.cat((old_ends, ends), dim=1)
    setattr(cache, _CACHED, (samples, ends))
    return samples


def set_samples_of_pass(cache: Cache | None, samples: Tensor | None) -> None:
    """Let a cache hold the samples of the pass that begins, or None."""
    if cache is not None and (samples is not None or getattr(cache, _OF_PASS, None) is not None):
        setattr(cache, _OF_PASS, samples)


def samples_of_pass(cache: Cache | None, length: int, past: int | Tensor) -> Tensor | None:
    """The samples that a cache holds of the pass that runs, (B, past + S), or None.

    Raises:
        InputError: if they are those of another pass.
    """
    samples = getattr(cache, _OF_PASS, None)
    if samples is not None and not isinstance(past, Tensor) and samples.shape[1] < past + length:
        raise InputError(f"the cache knows the samples of {samples.shape[1]} tokens, not of {past + length}.")
    return samples
