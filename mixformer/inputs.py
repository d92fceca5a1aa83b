"""From the arguments of a forward pass to what the layers share: positions, padding and samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache

from mixformer.errors import InputError
from mixformer.forward_context import ForwardContext
from mixformer.samples import (
    boundaries_of,
    checked_sample_ids,
    remembered_samples,
    sample_ids_from_boundaries,
    samples_of_pass,
    set_samples_of_pass,
)


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
    """The context of a forward pass, and the arguments that blocks and mixers may ask for by name.

    These are `attention_mask`, `cu_seqlens` and `position_ids` as the SDK calls them: a layer that hands them to `MHA`
    computes what one computes that hands on the context.

    Raises:
        InputError: for arguments that contradict each other or are unknown.
    """
    if unknown:
        raise InputError(f"unknown arguments {sorted(unknown)}.")
    batch, length, device = _sizes(input_ids, inputs_embeds)
    past = _past_length(cache, 0)
    samples = _samples(cu_seqlens, sample_ids, batch, length, past)
    if samples is None and config.cross_sample_token_id is not None and input_ids is not None:
        samples = remembered_samples(input_ids, config.cross_sample_token_id, cache)
    context = _context(config, (batch, length, device), cache, past, attention_mask, position_ids, samples)
    set_samples_of_pass(cache, samples)
    if cu_seqlens is None and samples is not None and samples.shape[1] == length:
        cu_seqlens = boundaries_of(samples)
    if sample_ids is not None:
        attention_mask = (context.segments != 0).long()  # a 0 among the sample_ids is padding
    return context, {
        "attention_mask": attention_mask,
        "cu_seqlens": cu_seqlens,
        "position_ids": context.position_ids,
    }


def layer_context(
    config: PreTrainedConfig,
    hidden_states: Tensor,
    cache: Cache | None,
    layer_idx: int,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> ForwardContext:
    """The context of one attention layer that got no context, from the keywords with which the SDK calls a mixer.

    Args:
        config: The model's configuration.
        hidden_states: (B, S, n_embd).
        cache: Cache to append to, or None.
        layer_idx: Which of the cache's layers is this one's.
        attention_mask, position_ids, cu_seqlens: As in `MixFormerSequentialForCausalLM.forward`. Without cu_seqlens the
            samples are those of the pass that the cache remembers, if it does.

    Raises:
        InputError: for arguments that contradict each other or the cache.
    """
    batch, length, device = _sizes(None, hidden_states)
    past = _past_length(cache, layer_idx)
    samples = _samples(cu_seqlens, None, batch, length, past)
    if samples is None:
        samples = samples_of_pass(cache, length, past)
    return _context(config, (batch, length, device), cache, past, attention_mask, position_ids, samples)


def _context(
    config: PreTrainedConfig,
    sizes: tuple[int, int, torch.device],
    cache: Cache | None,
    past: int | Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    samples: Tensor | None,
) -> ForwardContext:
    batch, length, device = sizes
    fixed = cache is not None and cache.is_compileable
    padding = _padding(attention_mask, batch, length, past, fixed)
    if position_ids is None:
        position_ids = _positions(padding, past, length, device)
    elif position_ids.shape[-1] != length:
        raise InputError(f"position_ids must have {length} columns, but got shape {tuple(position_ids.shape)}.")
    backend = config._attn_implementation or "sdpa"
    return ForwardContext(backend, position_ids.view(-1, length), _combined(padding, samples), past)


def _sizes(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> tuple[int, int, torch.device]:
    """B, S and the device."""
    tokens, name, axes = (input_ids, "input_ids", 2) if input_ids is not None else (inputs_embeds, "inputs_embeds", 3)
    if tokens.ndim != axes or not tokens.shape[1]:
        expected = "(B, S)" if axes == 2 else "(B, S, n_embd)"
        raise InputError(f"{name} must be {expected} with at least one token, but got shape {tuple(tokens.shape)}.")
    return tokens.shape[0], tokens.shape[1], tokens.device


def appended(cache: Cache, k: Tensor, v: Tensor, layer_idx: int, past: int | Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values (B, K, S, h) appended behind `past` others; all that the cache then holds, (B, K, Sk, h).

    A static cache of transformers 5.0 does not count by itself, and has to be told the places.
    """
    if hasattr(cache, "get_max_length"):
        return cache.update(k, v, layer_idx)
    return cache.update(k, v, layer_idx, {"cache_position": torch.arange(k.shape[2], device=k.device) + past})


def _past_length(cache: Cache | None, layer_idx: int) -> int | Tensor:
    """Tokens that a layer of the cache holds: the layers before it have appended those of this pass already."""
    past = 0 if cache is None else cache.get_seq_length(layer_idx)
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
    cu_seqlens: Tensor | None, sample_ids: Tensor | None, batch: int, length: int, past: int | Tensor
) -> Tensor | None:
    """(B, past + S) numbers of samples from 1 as they are given, or None."""
    if cu_seqlens is not None and sample_ids is not None:
        raise InputError("give either cu_seqlens or sample_ids.")
    if sample_ids is not None:
        return checked_sample_ids(sample_ids)
    if cu_seqlens is None:
        return None
    if not isinstance(past, Tensor) and past:
        raise InputError("cu_seqlens numbers the new tokens only: give sample_ids with a cache.")
    return sample_ids_from_boundaries(cu_seqlens, batch, length)


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
