"""Token embeddings with a norm behind them, as BLOOM has them."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedConfig

from mixformer.architecture import block_at
from mixformer.blocks.embeddings.common import Embedding
from mixformer.blocks.norms import get_norm


class NormedEmbedding(Embedding):
    """drop(ln(wte[ids])). Parameters: `wte.weight` (vocab_size, n_embd), `ln.*` with the norm of the first block."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        norm = block_at(config.architecture, 0)["norm"]
        self.ln = get_norm(config.n_embd, norm, path="architecture.norm")

    def tokens(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """(B, S, n_embd) before dropout."""
        normed: Tensor = self.ln(super().tokens(input_ids, inputs_embeds))
        return normed
