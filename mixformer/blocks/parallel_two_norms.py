"""The parallel block with a norm for each branch (GPT-NeoX, Falcon's new decoder)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.blocks.branches import first, taken
from mixformer.blocks.norms import get_norm
from mixformer.blocks.parallel import ParallelBlock


class ParallelTwoNormsBlock(ParallelBlock):
    """x += drop(mixer(ln_1(x))) + drop(mlp(ln_2(x))): as `ParallelBlock`, but for the norms.

    Args:
        config: The model's configuration.
        mixer, mlp, norm: Sub-dicts of the architecture.
        block_idx: Index of the block, 0-based.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        mixer: dict[str, Any] | None = None,
        mlp: dict[str, Any] | None = None,
        norm: dict[str, Any] | None = None,
        block_idx: int | None = None,
    ) -> None:
        super().__init__(config, mixer, mlp, norm, block_idx)
        del self.ln
        self.ln_1: nn.Module = get_norm(config.n_embd, norm_config=norm, config=config, block_idx=block_idx)
        self.ln_2: nn.Module = get_norm(config.n_embd, norm_config=norm, config=config, block_idx=block_idx)

    def forward(self, hidden_states: Tensor | tuple[Tensor, ...], **kwargs: Any) -> tuple[Tensor]:
        """(B, S, n_embd) to a 1-tuple of (B, S, n_embd); keyword arguments that the mixer takes go to it."""
        x = first(hidden_states)
        mixed = first(self.mixer(self.ln_1(x), **taken(kwargs, self.mixer_keywords)))
        return (self.resid_dropout(mixed) + self.resid_dropout(first(self.mlp(self.ln_2(x)))) + x,)
