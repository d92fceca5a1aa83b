"""Whirl's block: every position gets a gated running mean of those before it. It has neither attention nor norms."""

from typing import Any

import torch
from torch import Tensor, nn

from mixformer.blocks import BLOCKS


class WhirlBlock(nn.Module):
    """x + sigmoid(gate(x)) * mean of x up to the position, on (B, S, n_embd)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.gate = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """(B, S, n_embd) to the same."""
        counts = torch.arange(1, hidden_states.shape[1] + 1, dtype=hidden_states.dtype)[:, None]  # (S, 1)
        return hidden_states + torch.sigmoid(self.gate(hidden_states)) * hidden_states.cumsum(1) / counts


BLOCKS["mixformer-whirl/whirl"] = WhirlBlock
