"""Embeddings: from token ids to the residual stream."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from mixformer.blocks.embeddings.common import Embedding, OffsetPositionalEmbedding, PositionalEmbedding, UnitEmbedding
from mixformer.blocks.embeddings.normed import NormedEmbedding
from mixformer.blocks.embeddings.scaled import ScaledEmbedding, TableScaledEmbedding
from mixformer.registry import check_keywords, look_up

EMBEDDINGS: dict[str, type[nn.Module]] = {
    "default": Embedding,
    "positional": PositionalEmbedding,
    "scaled": ScaledEmbedding,  # ours
    "scaled_table": TableScaledEmbedding,  # ours
    "normed": NormedEmbedding,  # ours
    "positional_offset": OffsetPositionalEmbedding,  # ours
    "unit": UnitEmbedding,  # ours
}


def get_embedding(config: PreTrainedConfig, embedding_config: dict[str, Any] | None = None) -> nn.Module:
    """The embedding named by `embedding_config["embedding_cls"]`, by default `config.embd_layer`.

    Raises:
        ConfigurationError: for an unknown name.
        UnknownKeywordError: for a keyword that the class does not take.
    """
    keywords = dict(embedding_config or {})
    embedding_class = look_up(EMBEDDINGS, keywords.pop("embedding_cls", config.embd_layer), "embd_layer")
    check_keywords(embedding_class, keywords, "embd_layer")
    return embedding_class(config, **keywords)
