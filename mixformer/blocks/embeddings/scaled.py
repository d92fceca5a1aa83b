"""Token embeddings times a constant: Granite multiplies what enters the first block, Gemma the rows of its table."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.blocks.embeddings.common import Embedding
from mixformer.errors import invalid


class ScaledEmbedding(Embedding):
    """drop(wte[ids] * embd_scale), of `inputs_embeds` too. Parameter: `wte.weight` (vocab_size, n_embd).

    Raises:
        ConfigurationError: without a number in `config.embd_scale`.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.scale = checked_scale(config)

    def tokens(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """(B, S, n_embd) before dropout."""
        return super().tokens(input_ids, inputs_embeds) * self.scale


class ScaledTable(nn.Embedding):
    """An embedding whose rows are multiplied by a constant, rounded to their dtype first. Parameter: `weight`."""

    def __init__(self, rows: int, width: int, scale: float) -> None:
        super().__init__(rows, width)
        self.scale = scale

    def forward(self, input: Tensor) -> Tensor:
        """Ids (...) to rows (..., width)."""
        rows = super().forward(input)
        return rows * torch.tensor(self.scale, dtype=rows.dtype, device=rows.device)


class TableScaledEmbedding(Embedding):
    """drop(wte(ids)), where `wte` multiplies its rows by embd_scale. Parameter: `wte.weight` (vocab_size, n_embd).

    `inputs_embeds` are taken as they are, as those that the model's own input embeddings give.

    Raises:
        ConfigurationError: without a number in `config.embd_scale`.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.wte = ScaledTable(config.vocab_size, config.n_embd, checked_scale(config))


def checked_scale(config: PreTrainedConfig) -> float:
    """What embeddings are multiplied by.

    Raises:
        ConfigurationError: unless it is a number.
    """
    scale = config.embd_scale
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
        raise invalid("embd_scale", scale, f"a number, with embd_layer {config.embd_layer!r}")
    return float(scale)
