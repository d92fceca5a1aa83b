"""Norms of queries and keys: over each head with one weight for all, with a weight for each head, or over all heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.blocks.norms import get_norm
from mixformer.blocks.norms.rms import rms_norm
from mixformer.errors import invalid
from mixformer.precision import accumulation_dtype

OVER = ("head", "each_head", "width")
CENTRED = {"torch": True, "low_precision": True, "rms": False, "flash_rms": False}
PLAIN = {"norm_cls", "eps", "bias"}  # what a norm may say whose weight is another for each head


class HeadwiseNorm(nn.Module):
    """A norm over each head, with another weight for each head and without a bias.

    Parameter: `weight` (heads * head_dim,), head after head. Computed in the accumulation dtype and rounded once.

    Args:
        heads, head_dim: Sizes.
        eps: Added to the mean square, or to the variance.
        centred: True for a LayerNorm, which takes the mean away first.
    """

    def __init__(self, heads: int, head_dim: int, eps: float, centred: bool) -> None:
        super().__init__()
        self.heads, self.head_dim, self.eps, self.centred = heads, head_dim, eps, centred
        self.weight = nn.Parameter(torch.ones(heads * head_dim))

    def forward(self, x: Tensor) -> Tensor:
        """(..., heads, head_dim) to the same, in the same dtype."""
        wide = x.to(accumulation_dtype(x.dtype))
        wide = wide - wide.mean(-1, keepdim=True) if self.centred else wide
        return rms_norm(wide, self.weight.view(self.heads, self.head_dim), self.eps).to(x.dtype)


def checked_over(over: str, qk_norm: bool, path: str) -> str:
    """What queries and keys are normalised over.

    Raises:
        ConfigurationError: for an unknown value, or one that needs `qk_norm`.
    """
    if over not in OVER:
        raise invalid(f"{path}.qk_norm_over", over, f"one of {list(OVER)}")
    if over != "head" and not qk_norm:
        raise invalid(f"{path}.qk_norm_over", over, "'head' without qk_norm")
    return over


def norms_of_heads(
    over: str,
    heads: tuple[int, int],
    head_dim: int,
    entry: Mapping[str, Any],
    config: PreTrainedConfig,
    layer_idx: int | None,
    path: str,
) -> list[nn.Module]:
    """The norms of q and of k.

    Args:
        over: "head" for one weight (head_dim,), "each_head" for `HeadwiseNorm`, "width" for a norm over all heads.
        heads: Of q and of k.
        head_dim: Width of a head.
        entry: The norm of the block.
        config, layer_idx: To name the place in errors.
        path: Of the mixer, for errors.

    Raises:
        ConfigurationError: for a norm that `over` does not go with.
    """
    if over == "each_head":
        kind = entry.get("norm_cls")
        if kind not in CENTRED or set(entry) - PLAIN:
            raise invalid(f"{path}.qk_norm_over", over, f"another one with the norm {dict(entry)}")
        return [HeadwiseNorm(n, head_dim, float(entry.get("eps", 1e-5)), CENTRED[kind]) for n in heads]
    widths = [n * head_dim if over == "width" else head_dim for n in heads]
    return [get_norm(width, dict(entry), config=config, block_idx=layer_idx) for width in widths]


def normalised(x: Tensor, norm: nn.Module, over: str) -> Tensor:
    """x (B, S, heads, head_dim) normalised, of the same shape and dtype."""
    return norm(x.flatten(-2)).view_as(x) if over == "width" else norm(x)
