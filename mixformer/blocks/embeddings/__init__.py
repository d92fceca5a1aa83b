"""Embeddings: from token ids to the residual stream."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from mixformer.blocks.embeddings.token import Embedding, PositionalEmbedding
from mixformer.registry import look_up

EMBEDDINGS: dict[str, type[nn.Module]] = {"default": Embedding, "positional": PositionalEmbedding}


def get_embedding(config: PreTrainedConfig, embedding_config: dict[str, Any] | None = None) -> nn.Module:
    """The embedding named by `embedding_config["embedding_cls"]`, by default `config.embd_layer`.

    Raises:
        ConfigurationError: for an unknown name.
    """
    keywords = dict(embedding_config or {})
    name = keywords.pop("embedding_cls", config.embd_layer)
    return look_up(EMBEDDINGS, name, "embd_layer")(config, **keywords)
