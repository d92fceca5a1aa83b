"""Inverse frequencies of rotary embeddings, in float32 and in transformers' order of operations.

A checkpoint was trained with the float32 values that this order gives; computing them in float64 moves logits by 6e-8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from mixformer.errors import ConfigurationError, invalid, unknown_keywords

# Kinds whose frequencies depend on the length of the sequence, so that a forward pass has to look at it.
LENGTH_DEPENDENT = ("dynamic", "longrope")
ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")


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

    def _read(self, parameters: dict[str, Any], path: str) -> None:
        self.kind = parameters.get("rope_type", parameters.get("type", "default"))
        if self.kind not in ROPE_TYPES:
            raise invalid(f"{path}.rope_type", self.kind, f"one of {list(ROPE_TYPES)}")
        theta = parameters.setdefault("rope_theta", self.base)
        if self.base != theta and self.base != 10000.0:
            raise ConfigurationError(f"`{path}.rope_theta` = {theta} contradicts rotary_base = {self.base}.")
        self.base = theta
        # The rotating part stands alone here, so that its size is rotary_dim exactly, whatever the factor rounds to.
        parameters.pop("partial_rotary_factor", None)
        self.original_max_positions = parameters.get("original_max_position_embeddings") or self.max_positions
        if self.kind in ("llama3", "yarn", "longrope"):
            parameters["original_max_position_embeddings"] = self.original_max_positions
        self._source = RopeSource(parameters, self.rotary_dim, self.max_positions)
        try:
            self.compute(torch.device("cpu"))
        except (KeyError, TypeError) as error:
            raise ConfigurationError(f"`{path}` of type {self.kind!r} lacks or misspells {error}.") from error

    def compute(self, device: torch.device, length: Tensor | int | None = None) -> tuple[Tensor, float]:
        """Inverse frequencies (rotary_dim / 2,) in float32, and the factor of cosines and sines.

        Args:
            device: Where to compute.
            length: Length of the sequence, where the kind depends on it.
        """
        if self.kind == "default":
            exponents = torch.arange(0, self.rotary_dim, 2, dtype=torch.float32, device=device) / self.rotary_dim
            return 1.0 / (self.base**exponents), 1.0
        return ROPE_INIT_FUNCTIONS[self.kind](self._source, device, seq_len=length)

    def for_length(self, resting: Tensor, length: Tensor) -> Tensor:
        """The frequencies for a sequence of `length` (0-dim), given those of a short one; float32."""
        if self.kind == "dynamic":
            longer = self.compute(resting.device, length)[0]
            return torch.where(length > self.max_positions, longer, resting)
        longer = self.compute(resting.device, self.original_max_positions + 1)[0]
        return torch.where(length > self.original_max_positions, longer, resting)

    def signature(self) -> tuple[object, ...]:
        """What determines the frequencies; equal for layers that can share tables."""
        parameters = None if self.kind == "default" else repr(sorted(self._source.rope_parameters.items()))
        return (type(self).__name__, self.rotary_dim, self.base, self.kind, self.max_positions, parameters)


@dataclass(frozen=True)
class YarnOptions:
    """Keys of the SDK's `rope_scaling`."""

    extrapolation_factor: float = 1.0
    attn_factor: float = 1.0
    beta_fast: float = 32
    beta_slow: float = 1
    dynamic: bool = False
    finetuned: bool = False


class SdkYarn(Frequencies):
    """YaRN as the SDK spells it: `rope_scaling` with the factor in `rotary_scale_base`.

    Peng et al. 2023 (arXiv:2309.00071). It differs from transformers' yarn in that the original length is n_positions,
    that the weight of extrapolation has a factor, and that the ramp always runs between whole dimensions.

    Args:
        rotary_dim, base, max_positions: As in `Frequencies`.
        factor: How many times longer than n_positions sequences get.
        options: The remaining keys of `rope_scaling`.
    """

    def __init__(
        self, rotary_dim: int, base: float, max_positions: int, factor: float | None, options: YarnOptions
    ) -> None:
        super().__init__(rotary_dim, base, None, max_positions, "")
        self.kind = "dynamic" if options.dynamic else "sdk_yarn"
        self.factor = 1.0 if factor is None else float(factor)
        self.options = options

    def compute(self, device: torch.device, length: Tensor | int | None = None) -> tuple[Tensor, float]:
        """Inverse frequencies (rotary_dim / 2,) in float32, and mscale."""
        mscale = _mscale(self.factor) * self.options.attn_factor
        scale = self.factor
        if self.options.dynamic:
            # Unscaled up to n_positions (a finetuned model is scaled by n_positions / n_positions = 1: the same).
            scale = 1.0 if length is None else length / self.max_positions
        positions = self.base ** (
            torch.arange(0, self.rotary_dim, 2, dtype=torch.float32, device=device) / self.rotary_dim
        )
        extrapolated, interpolated = 1.0 / positions, 1.0 / (scale * positions)
        share = (1 - self._ramp(device)) * self.options.extrapolation_factor
        return interpolated * (1 - share) + extrapolated * share, mscale

    def _ramp(self, device: torch.device) -> Tensor:
        """0 below the dimension that turns beta_fast times in n_positions, 1 above beta_slow, (rotary_dim / 2,)."""
        low = max(math.floor(self._dimension_of(self.options.beta_fast)), 0)
        high = min(math.ceil(self._dimension_of(self.options.beta_slow)), self.rotary_dim - 1)
        width = high - low if high != low else 0.001
        return ((torch.arange(self.rotary_dim // 2, dtype=torch.float32, device=device) - low) / width).clamp(0, 1)

    def _dimension_of(self, turns: float) -> float:
        wavelength = self.max_positions / (turns * 2 * math.pi)
        return self.rotary_dim * math.log(wavelength) / (2 * math.log(self.base))

    def signature(self) -> tuple[object, ...]:
        """What determines the frequencies; equal for layers that can share tables."""
        return (*super().signature(), self.factor, self.options)


def _mscale(factor: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * math.log(factor) + 1.0


def rotary_frequencies(
    rotary_dim: int,
    base: float,
    scale_base: float | None,
    rope_scaling: Mapping[str, Any] | None,
    rope_parameters: Mapping[str, Any] | None,
    max_positions: int,
    path: str,
) -> Frequencies | None:
    """The frequencies that the keywords of a mixer ask for; None if nothing rotates.

    Args:
        rotary_dim: Dimensions that rotate.
        base: `rotary_base`.
        scale_base, rope_scaling: The SDK's spelling, YaRN only.
        rope_parameters: transformers' spelling, any kind.
        max_positions: `n_positions`.
        path: Of the mixer, for errors.

    Raises:
        ConfigurationError: for two spellings at once, and for what the SDK accepts but ignores.
    """
    if rope_scaling is None and scale_base is not None:
        raise invalid(f"{path}.rotary_scale_base", scale_base, "None unless rope_scaling is of type 'yarn'")
    if rope_scaling is not None and rope_parameters is not None:
        raise ConfigurationError(f"`{path}` has both rope_scaling and rope_parameters: keep rope_parameters.")
    if rotary_dim == 0:
        return None
    if rope_scaling is None:
        return Frequencies(rotary_dim, base, rope_parameters, max_positions, f"{path}.rope_parameters")
    options = dict(rope_scaling)
    kind = options.pop("rope_type", options.pop("type", None))
    if kind != "yarn":
        expected = "'yarn'; the SDK ignores any other kind, so write it as rope_parameters, or leave it out"
        raise invalid(f"{path}.rope_scaling.rope_type", kind, expected)
    known = {f.name for f in fields(YarnOptions)}
    if set(options) - known:
        raise unknown_keywords(f"{path}.rope_scaling", set(options) - known, known)
    return SdkYarn(rotary_dim, base, max_positions, scale_base, YarnOptions(**options))
