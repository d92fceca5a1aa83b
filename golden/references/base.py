"""The base of the references: what golden needs of a model besides its forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer so far, (batch, heads, tokens, head_dim) each."""

WRAPPERS = ("_orig_mod.", "module.")
"""What torch.compile and data parallelism put before the keys of a state dict."""


@dataclass(frozen=True)
class Output:
    """Logits (batch, tokens, vocab), and the cache after these tokens, None where the model has none."""

    logits: Tensor
    past_key_values: Cache | None


class Reference(nn.Module):
    """A model with a config and an embedding, whose only attention is eager."""

    config: SimpleNamespace

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def get_input_embeddings(self) -> nn.Embedding:
        """The first embedding, which is that of tokens."""
        return next(module for module in self.modules() if isinstance(module, nn.Embedding))

    def set_attn_implementation(self, implementation: str) -> None:
        """Raises ValueError for anything but eager."""
        if implementation != "eager":
            raise ValueError(f"a native file runs with eager attention only, not with {implementation!r}")


class Linear(nn.Module):
    """A matrix (outputs, inputs) with or without a bias."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        bias = weights.get(f"{name}.bias")
        self.weight = nn.Parameter(weights[f"{name}.weight"])
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def unwrapped(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state dict under the names that the model itself gave them."""
    weights = {}
    for key, weight in stored.items():
        while key.startswith(WRAPPERS):
            key = key.partition(".")[2]
        weights[key] = weight
    return weights


def embedding(weight: Tensor) -> nn.Embedding:
    """The embedding with these rows."""
    rows, width = weight.shape
    return nn.Embedding(rows, width, _weight=weight)


def config_of(vocab: int, positions: int, **more: Any) -> SimpleNamespace:
    """A config with the fields that golden reads."""
    return SimpleNamespace(vocab_size=vocab, max_position_embeddings=positions, _attn_implementation="eager", **more)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of (batch, heads, tokens, head_dim), the mask aligned to the last key; softmax in float32."""
    tokens, keys = q.shape[2], k.shape[2]
    scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5  # (batch, heads, tokens, keys)
    hidden = torch.ones(tokens, keys, dtype=torch.bool, device=q.device).triu(keys - tokens + 1)
    weights = scores.masked_fill(hidden, -torch.inf).float().softmax(-1).type_as(q)
    found: Tensor = weights @ v
    return found


def extended(cache: Cache | None, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values with those of a cache before them."""
    if cache is None:
        return k, v
    return torch.cat((cache[layer][0], k), 2), torch.cat((cache[layer][1], v), 2)
