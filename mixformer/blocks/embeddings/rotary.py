"""Rotary embeddings under the module name of the SDK; they stand with the mixers, which they are a part of."""

from mixformer.blocks.mixers.rotary import RotaryEmbedding

__all__ = ["RotaryEmbedding"]
