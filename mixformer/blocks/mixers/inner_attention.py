"""The part of multi-head attention without weights: scores, softmax, and the buffers they need."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mixformer.attention import ScoreRule, attention
from mixformer.blocks.mixers.alibi import Alibi
from mixformer.derived_buffers import DerivedBuffers
from mixformer.forward_context import ForwardContext
from mixformer.visibility import Window


class InnerAttention(DerivedBuffers):
    """Attention of queries over keys and values by the backend of the forward pass.

    Args:
        causal, window: What a query sees, see `Visibility`.
        scale, softcap, dropout: See `ScoreRule`.
        alibi: How scores are biased by distance.
    """

    alibi_slopes: Tensor | None

    def __init__(
        self, causal: bool, window: Window, scale: float, softcap: float, dropout: float, alibi: Alibi
    ) -> None:
        super().__init__()
        self.causal = causal
        self.window = window
        self.scale = scale
        self.softcap = softcap
        self.drop = nn.Dropout(dropout)
        self.alibi = alibi
        slopes = torch.empty(alibi.heads, dtype=torch.float32) if alibi.heads else None
        self.register_buffer("alibi_slopes", slopes, persistent=False)
        self.reset_buffers()

    @torch.no_grad()
    def reset_buffers(self) -> None:
        """Fill `alibi_slopes`."""
        if self.alibi_slopes is not None and not self.alibi_slopes.is_meta:
            self.alibi_slopes.copy_(self.alibi.slopes())

    def forward(self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext) -> Tensor:
        """(B, Sq, H, D) queries over (B, Sk, K, D) keys and values to (B, Sq, H, D)."""
        query_length, key_length = q.shape[1], k.shape[1]
        visibility = context.visibility(self.causal, self.window, query_length, key_length)
        dropout = self.drop.p if self.training else 0.0
        return attention(
            q,
            k,
            v,
            backend=context.backend,
            visibility=visibility,
            rule=ScoreRule(self.scale, self.softcap, self.alibi_slopes, dropout),
            mask=context.mask(visibility, query_length, key_length, q.device),
        )
