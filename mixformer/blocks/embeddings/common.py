"""Token embeddings, with and without learned positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.blocks.unit_linear import ROWS, of_length_one
from mixformer.errors import InputError


class Embedding(nn.Module):
    """drop(wte[ids]). Parameter: `wte.weight` (vocab_size, n_embd)."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)

    def forward(self, input_ids: Tensor | None = None, *, inputs_embeds: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Embed token ids, or go on from embeddings made elsewhere.

        Args:
            input_ids: (B, S) integers below vocab_size, or None with inputs_embeds.
            inputs_embeds: (B, S, n_embd).

        Returns:
            (B, S, n_embd).

        Raises:
            InputError: for an id outside the vocabulary (on the CPU; an accelerator reports it in its own way).
        """
        return self.drop(self.tokens(input_ids, inputs_embeds))

    def tokens(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """(B, S, n_embd) before positions and dropout."""
        if inputs_embeds is not None:
            return inputs_embeds
        if not torch.compiler.is_compiling() and input_ids.device.type == "cpu":
            _check_ids(input_ids, self.wte.num_embeddings)
        return self.wte(input_ids)


class UnitEmbedding(Embedding):
    """drop(wte[ids] / |wte[ids]|): rows of any length are stored, and have length 1 when they are used."""

    def tokens(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """(B, S, n_embd) before dropout; embeddings made elsewhere are taken as they are."""
        x = super().tokens(input_ids, inputs_embeds)
        return x if inputs_embeds is not None else of_length_one(x, ROWS)


class PositionalEmbedding(Embedding):
    """drop(wte[ids] + wpe[positions]). Adds `wpe.weight` (n_positions, n_embd).

    Rotary embeddings stay on beside it unless the mixer's rotary_dim is 0.
    """

    offset = 0

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.wpe = nn.Embedding(config.n_positions + self.offset, config.n_embd)

    def forward(
        self,
        input_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """As `Embedding.forward`; position_ids are (1 or B, S), by default 0, 1, ...

        Raises:
            InputError: for a position outside n_positions (on the CPU).
        """
        x = self.tokens(input_ids, inputs_embeds)
        if position_ids is None:
            position_ids = torch.arange(x.shape[1], device=x.device)[None]
        if not torch.compiler.is_compiling() and position_ids.device.type == "cpu":
            _check_positions(position_ids, self.wpe.num_embeddings - self.offset)
        return self.drop(x + self.wpe(position_ids + self.offset))


class OffsetPositionalEmbedding(PositionalEmbedding):
    """`PositionalEmbedding` whose first position reads row 2, as OPT's: `wpe.weight` (n_positions + 2, n_embd)."""

    offset = 2


def _check_ids(ids: Tensor, vocabulary: int) -> None:
    low, high = (int(value) for value in torch.aminmax(ids)) if ids.numel() else (0, 0)
    if low < 0 or high >= vocabulary:
        found = low if low < 0 else high
        raise InputError(f"`input_ids` must be ids from 0 to {vocabulary - 1}, but got {found}.")


def _check_positions(positions: Tensor, n_positions: int) -> None:
    if positions.numel() and int(positions.max()) >= n_positions:
        raise InputError(
            f"`position_ids` must be below n_positions = {n_positions}, but got {int(positions.max())}: "
            "a positional embedding has no row for longer sequences."
        )
