"""Inverse frequencies of rotary embeddings, in float32 and in transformers' order of operations.

A checkpoint was trained with the float32 values that this order gives; computing them in float64 moves logits by 6e-8.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from mixformer.errors import ConfigurationError, invalid

# Kinds whose frequencies depend on the length of the sequence, so that a forward pass has to look at it.
LENGTH_DEPENDENT = ("dynamic", "longrope")
ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn", "longrope", "proportional")


@dataclass
class RopeSource:
    """The attributes that `ROPE_INIT_FUNCTIONS` read from a configuration."""

    rope_parameters: dict[str, Any]
    head_dim: int
    max_position_embeddings: int
    hidden_size: int = 0
    num_attention_heads: int = 1

    def standardize_rope_params(self) -> None:
        """Nothing to do: the parameters are in their standard form already."""


class Frequencies:
    """Inverse frequencies of one rotary embedding.

    Args:
        rotary_dim: Dimensions that rotate, even.
        base: Base of the geometric progression.
        parameters: transformers' `rope_parameters`, or None for the default kind.
        max_positions: Length the model is made for.
        path: Where the parameters stand in the configuration, for errors.

    Raises:
        ConfigurationError: for an unknown kind, a missing parameter or two different bases.
    """

    def __init__(
        self, rotary_dim: int, base: float, parameters: Mapping[str, Any] | None, max_positions: int, path: str
    ) -> None:
        self.rotary_dim = rotary_dim
        self.base = base
        self.kind = "default"
        self.max_positions = max_positions
        self.original_max_positions = max_positions
        if parameters is not None:
            self._read(dict(parameters), path)
        # Equal for layers that can share tables.
        self.signature: tuple[Hashable, ...] = (self.rotary_dim, self.base, max_positions, repr(parameters))

    def _read(self, parameters: dict[str, Any], path: str) -> None:
        self.kind = parameters.get("rope_type", parameters.get("type", "default"))
        if self.kind not in ROPE_TYPES:
            raise invalid(f"{path}.rope_type", self.kind, f"one of {list(ROPE_TYPES)}")
        theta = parameters.setdefault("rope_theta", self.base)
        if self.base != theta and self.base != 10000.0:
            raise ConfigurationError(f"`{path}.rope_theta` = {theta} contradicts rotary_base = {self.base}.")
        self.base = theta
        # The rotating part stands alone here, so that its size is rotary_dim exactly, whatever the factor rounds to.
        # Proportional is the exception: all dimensions turn, those beyond the factor with frequency 0.
        if self.kind != "proportional":
            parameters.pop("partial_rotary_factor", None)
        self.original_max_positions = parameters.get("original_max_position_embeddings") or self.max_positions
        if self.kind in ("llama3", "yarn", "longrope"):
            parameters["original_max_position_embeddings"] = self.original_max_positions
        if self.kind == "longrope":
            _check_factors(parameters, self.rotary_dim // 2, path)
        self._source = RopeSource(parameters, self.rotary_dim, self.max_positions)
        try:
            self.compute(torch.device("cpu"))
        except KeyError as error:
            raise ConfigurationError(f"`{path}` of type {self.kind!r} lacks {error}.") from error
        except (TypeError, RuntimeError) as error:
            raise ConfigurationError(f"`{path}` of type {self.kind!r} cannot be computed: {error}.") from error

    def compute(self, device: torch.device, length: Tensor | int | None = None) -> tuple[Tensor, float]:
        """Inverse frequencies (rotary_dim / 2,) in float32, and the factor of cosines and sines.

        Args:
            device: Where to compute.
            length: Length of the sequence, where the kind depends on it.
        """
        if self.kind == "default":
            exponents = torch.arange(0, self.rotary_dim, 2, dtype=torch.float32, device=device) / self.rotary_dim
            return 1.0 / (self.base**exponents), 1.0
        # Some kinds begin on the default device, which is meta while a model is loaded.
        with torch.device(device):
            return ROPE_INIT_FUNCTIONS[self.kind](self._source, device, seq_len=length)

    def for_length(self, resting: Tensor, length: Tensor) -> tuple[Tensor, Tensor | float]:
        """Frequencies and factor for a sequence of `length` (0-dim), given the frequencies of a short one; float32."""
        if self.kind == "dynamic":
            threshold, at = self.max_positions, length
        else:
            threshold, at = self.original_max_positions, self.original_max_positions + 1
        longer, factor = self.compute(resting.device, at)
        return torch.where(length > threshold, longer, resting), factor


def _check_factors(parameters: Mapping[str, Any], size: int, path: str) -> None:
    """One factor per frequency: fewer would be broadcast without a word."""
    for name in ("short_factor", "long_factor"):
        found = parameters.get(name)
        if not isinstance(found, list | tuple) or len(found) != size:
            raise invalid(f"{path}.{name}", found, f"a list of {size} numbers")
