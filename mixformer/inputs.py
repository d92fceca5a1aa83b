"""From the arguments of a forward pass to what the layers share: positions, padding and samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache

from mixformer.errors import InputError
from mixformer.forward_context import ForwardContext
from mixformer.samples import checked_sample_ids, sample_ids_from_boundaries, sample_ids_of

# Where a cache remembers the samples of its tokens, for callers who pass new tokens only.
_CACHED_SAMPLES = "mixformer_sample_ids"


def forward_context(
    config: PreTrainedConfig,
    input_ids: Tensor | None,
    inputs_embeds: Tensor | None,
    cache: Cache | None,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    sample_ids: Tensor | None = None,
    **unknown: Any,
) -> tuple[ForwardContext, dict[str, Any]]:
    """The context of a forward pass, and the arguments that mixers may ask for by name.

    Raises:
        InputError: for arguments that contradict each other or are unknown.
    """
    if unknown:
        raise InputError(f"unknown arguments {sorted(unknown)}.")
    batch, length, device = _sizes(input_ids, inputs_embeds)
    past = _past_length(cache)
    fixed = cache is not None and cache.is_compileable
    padding = _padding(attention_mask, batch, length, past, fixed)
    samples = _samples(config, input_ids, cu_seqlens, sample_ids, batch, length, cache)
    segments = _combined(padding, samples)
    if position_ids is None:
        position_ids = _positions(padding, past, length, device)
    elif position_ids.shape[-1] != length:
        raise InputError(f"position_ids must have {length} columns, but got shape {tuple(position_ids.shape)}.")
    context = ForwardContext(
        config._attn_implementation, position_ids.view(-1, length), None if segments is None else segments, past
    )
    names = {"attention_mask": attention_mask, "cu_seqlens": cu_seqlens, "position_ids": context.position_ids}
    return context, names


def _sizes(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> tuple[int, int, torch.device]:
    """B, S and the device."""
    tokens, name, axes = (input_ids, "input_ids", 2) if input_ids is not None else (inputs_embeds, "inputs_embeds", 3)
    if tokens.ndim != axes or not tokens.shape[1]:
        expected = "(B, S)" if axes == 2 else "(B, S, n_embd)"
        raise InputError(f"{name} must be {expected} with at least one token, but got shape {tuple(tokens.shape)}.")
    return tokens.shape[0], tokens.shape[1], tokens.device


def _past_length(cache: Cache | None) -> int | Tensor:
    past = 0 if cache is None else cache.get_seq_length()
    # A static cache counts in place while layers append to it: every layer must see the count before.
    return past.clone() if isinstance(past, Tensor) else past


def _padding(mask: Tensor | None, batch: int, length: int, past: int | Tensor, fixed: bool) -> Tensor | None:
    """(B, past + S) booleans, True for tokens; None if there is no padding.

    With a cache of fixed size the mask may be as long as the cache, so that its shape does not change while decoding.
    """
    if mask is None:
        return None
    if mask.ndim != 2 or mask.shape[0] != batch:
        raise InputError(f"attention_mask must be ({batch}, past + {length}), but got shape {tuple(mask.shape)}.")
    if not isinstance(past, Tensor):
        if mask.shape[1] < past + length or (mask.shape[1] > past + length and not fixed):
            raise InputError(
                f"attention_mask must cover {past} cached and {length} new tokens, but got shape {tuple(mask.shape)}."
            )
        mask = mask[:, : past + length]
    elif mask.shape[1] < length:
        raise InputError(f"attention_mask must cover {length} new tokens, but got shape {tuple(mask.shape)}.")
    tokens = mask != 0
    if not torch.compiler.is_compiling() and bool(tokens.all()):
        return None
    return tokens


def _samples(
    config: PreTrainedConfig,
    input_ids: Tensor | None,
    cu_seqlens: Tensor | None,
    sample_ids: Tensor | None,
    batch: int,
    length: int,
    cache: Cache | None,
) -> Tensor | None:
    """(B, past + S) numbers of samples from 1, or None if rows are whole samples."""
    if cu_seqlens is not None and sample_ids is not None:
        raise InputError("give either cu_seqlens or sample_ids.")
    if sample_ids is not None:
        return checked_sample_ids(sample_ids)
    if cu_seqlens is not None:
        if cache is not None and not isinstance(cache.get_seq_length(), Tensor) and cache.get_seq_length():
            raise InputError("cu_seqlens numbers the new tokens only: give sample_ids with a cache.")
        return sample_ids_from_boundaries(cu_seqlens, batch, length)
    if config.cross_sample_token_id is None or input_ids is None:
        return None
    return _remembered(input_ids, config.cross_sample_token_id, cache)


def _remembered(input_ids: Tensor, separator: int, cache: Cache | None) -> Tensor:
    """Samples of new tokens behind those that the cache has seen."""
    new = sample_ids_of(input_ids, separator)
    if cache is None:
        return new
    past = int(cache.get_seq_length())
    state = getattr(cache, _CACHED_SAMPLES, None)  # (samples, number of the sample the next token belongs to)
    if past and state is None:
        raise InputError("cross_sample_token_id is set and the cache does not know its samples: give sample_ids.")
    samples, current = new, torch.ones_like(new[:, :1])
    if past:
        old_samples, old_ends = state[0][:, :past], state[1][:, :past]
        current = old_samples[:, -1:] + old_ends[:, -1:].long()
        samples = torch.cat((old_samples, new + current - 1), dim=1)
        ends = torch.cat((old_ends, input_ids == separator), dim=1)
    else:
        ends = input_ids == separator
    setattr(cache, _CACHED_SAMPLES, (samples, ends))
    return samples


def _combined(padding: Tensor | None, samples: Tensor | None) -> Tensor | None:
    """Segments as in `Visibility`."""
    if samples is None:
        return None if padding is None else padding.long()
    if padding is None:
        return samples
    length = max(padding.shape[1], samples.shape[1])
    padding, samples = (torch.nn.functional.pad(x, (0, length - x.shape[1])) for x in (padding, samples))
    return samples * padding


def _positions(padding: Tensor | None, past: int | Tensor, length: int, device: torch.device) -> Tensor:
    """(1 or B, S): the count of tokens before each one, padding left out."""
    index = torch.arange(length, device=device) + past
    if padding is None:
        return index[None]
    return (padding.long().cumsum(-1) - 1).clamp(min=0)[:, index]
