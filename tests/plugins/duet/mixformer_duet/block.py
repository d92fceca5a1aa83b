"""Duet's block: attention and a gated MLP side by side, each on its own norm and each with its own scale."""

from typing import Any

import torch
from torch import Tensor, nn

from mixformer.blocks import BLOCKS
from mixformer.blocks.sequential import SequentialBlock

BRANCHES = ("attn", "mlp")


class DuetBlock(SequentialBlock):
    """x + a * attn(ln_1(x)) + m * mlp(ln_2(x)), on (B, S, n_embd).

    Args:
        config: The model's configuration.
        mixer, mlp, norm: Sub-dicts of the architecture.
        block_idx: Index of the block, 0-based.
        branch_scales: Whether there are a and m, (n_embd,) each: parameters `branch_scale.attn` and `branch_scale.mlp`.
    """

    def __init__(
        self,
        config: Any,
        mixer: dict[str, Any] | None = None,
        mlp: dict[str, Any] | None = None,
        norm: dict[str, Any] | None = None,
        block_idx: int | None = None,
        branch_scales: bool = False,
    ) -> None:
        super().__init__(config, mixer, mlp, norm, block_idx)
        if branch_scales:
            self.branch_scale = nn.ParameterDict({name: torch.ones(config.n_embd) for name in BRANCHES})
        self.branch_scales = branch_scales

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """(B, S, n_embd) to the same; keyword arguments go to attention."""
        mixed, mapped = self.attn(self.ln_1(hidden_states), **kwargs), self.mlp(self.ln_2(hidden_states))
        if self.branch_scales:
            mixed, mapped = self.branch_scale["attn"] * mixed, self.branch_scale["mlp"] * mapped
        return hidden_states + mixed + mapped


BLOCKS["mixformer-duet/duet"] = DuetBlock
