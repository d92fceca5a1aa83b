"""Token embeddings times a constant, as Granite and Gemma have them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from mixformer.blocks.embeddings.common import Embedding
from mixformer.errors import invalid


class ScaledEmbedding(Embedding):
    """drop(wte[ids] * embd_scale). Parameter: `wte.weight` (vocab_size, n_embd).

    The constant is `config.embd_scale`, a number that has to be said; it is rounded to the dtype of the embeddings
    first, as Gemma's is. `inputs_embeds` are multiplied too: they stand for rows of `wte`.

    Raises:
        ConfigurationError: without a number in `config.embd_scale`.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        scale = config.embd_scale
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
            raise invalid("embd_scale", scale, 'a number, with embd_layer "scaled"')
        self.scale = float(scale)

    def tokens(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """(B, S, n_embd) before dropout."""
        rows = super().tokens(input_ids, inputs_embeds)
        return rows * float(torch.tensor(self.scale, dtype=rows.dtype, device="cpu"))
