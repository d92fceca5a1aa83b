"""Packed samples: several of them in one row, where attention must not cross from one to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from mixformer.errors import InputError


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
    row_ends = torch.arange(batch + 1, device=bounds.device) * length
    ascending = bool((bounds.diff() >= 0).all()) and bool(torch.isin(row_ends, bounds).all())
    if not ascending or int(bounds[0]) != 0 or int(bounds[-1]) != batch * length:
        raise InputError(
            f"cu_seqlens must ascend from 0 to {batch * length} with a boundary at every multiple of {length} "
            f"(the end of a row), but got {cu_seqlens.tolist()}."
        )
    tokens = torch.arange(batch * length, device=bounds.device)
    return torch.bucketize(tokens, bounds[1:], right=True).view(batch, length) + 1
