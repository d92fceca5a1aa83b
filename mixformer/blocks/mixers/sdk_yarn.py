"""Rotary frequencies in the SDK's spelling (YaRN only), and the choice between that spelling and transformers'."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from mixformer.blocks.mixers.rope import Frequencies
from mixformer.errors import ConfigurationError, invalid, unknown_keywords


@dataclass(frozen=True)
class YarnOptions:
    """Keys of the SDK's `rope_scaling`. Positions are counted in float32 here, so `pos_idx_in_fp32` is true."""

    extrapolation_factor: float = 1.0
    attn_factor: float = 1.0
    beta_fast: float = 32
    beta_slow: float = 1
    dynamic: bool = False
    finetuned: bool = False
    pos_idx_in_fp32: bool = True


class SdkYarn(Frequencies):
    """YaRN as the SDK spells it: `rope_scaling`, with the factor in `rotary_scale_base`.

    Peng et al. 2023 (arXiv:2309.00071). It differs from transformers' yarn in that the original length is n_positions,
    that the share of extrapolation has a factor, and that the ramp always runs between whole dimensions.

    Args:
        rotary_dim, base, max_positions: As in `Frequencies`.
        factor: How many times longer than n_positions sequences get, by default 1.
        options: The remaining keys of `rope_scaling`. With `dynamic`, the factor is that of each sequence instead, once
            it is longer than n_positions; until then nothing is stretched, unless the model was `finetuned` with the
            factor. cosines and sines have the factor's mscale either way.
    """

    def __init__(
        self, rotary_dim: int, base: float, max_positions: int, factor: float | None, options: YarnOptions
    ) -> None:
        super().__init__(rotary_dim, base, None, max_positions, "")
        self.kind = "dynamic" if options.dynamic else "sdk_yarn"
        self.factor = 1.0 if factor is None else float(factor)
        self.options = options
        self.signature = (*self.signature, self.factor, options)

    def compute(self, device: torch.device, length: Tensor | int | None = None) -> tuple[Tensor, float]:
        """Inverse frequencies (rotary_dim / 2,) in float32, and mscale for a sequence no longer than n_positions."""
        factor = self.factor if length is None else length / self.max_positions
        mscale = _mscale(self.factor) * self.options.attn_factor
        exponents = torch.arange(0, self.rotary_dim, 2, dtype=torch.float32, device=device) / self.rotary_dim
        wavelengths = self.base**exponents  # over 2 pi
        extrapolated, interpolated = 1.0 / wavelengths, 1.0 / (factor * wavelengths)
        if length is None and self.options.dynamic and not self.options.finetuned:
            return extrapolated, mscale
        share = (1 - self._ramp(device)) * self.options.extrapolation_factor
        return interpolated * (1 - share) + extrapolated * share, mscale

    def for_length(self, resting: Tensor, length: Tensor) -> tuple[Tensor, Tensor | float]:
        """As in `Frequencies`; mscale grows with the length too."""
        longer, at_rest = self.compute(resting.device, length)
        # In float64, as a number in Python is: beside it, the factor at rest would be rounded to float32.
        stretched = (0.1 * torch.log(length.double() / self.max_positions) + 1.0) * self.options.attn_factor
        is_longer = length > self.max_positions
        return torch.where(is_longer, longer, resting), torch.where(is_longer, stretched, at_rest)

    def _ramp(self, device: torch.device) -> Tensor:
        """0 below the dimension that turns beta_fast times in n_positions, 1 above beta_slow, (rotary_dim / 2,)."""
        low = max(math.floor(self._dimension_of(self.options.beta_fast)), 0)
        high = min(math.ceil(self._dimension_of(self.options.beta_slow)), self.rotary_dim - 1)
        width = high - low if high != low else 0.001
        return ((torch.arange(self.rotary_dim // 2, dtype=torch.float32, device=device) - low) / width).clamp(0, 1)

    def _dimension_of(self, turns: float) -> float:
        wavelength = self.max_positions / (turns * 2 * math.pi)
        return self.rotary_dim * math.log(wavelength) / (2 * math.log(self.base))


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
    if rope_scaling is not None and _is_plain(rope_scaling, base):
        rope_scaling = None
    if rope_scaling is None and scale_base is not None:
        raise invalid(f"{path}.rotary_scale_base", scale_base, "None unless rope_scaling is of type 'yarn'")
    if rope_scaling is not None and rope_parameters is not None:
        raise ConfigurationError(f"`{path}` has both rope_scaling and rope_parameters: keep rope_parameters.")
    if rotary_dim == 0:
        return None
    if rope_scaling is None:
        return Frequencies(rotary_dim, base, rope_parameters, max_positions, f"{path}.rope_parameters")
    options = dict(rope_scaling)
    old, new = options.pop("type", None), options.pop("rope_type", None)
    kind = new if new is not None else old
    if kind != "yarn":
        expected = "'yarn'; the SDK ignores any other kind, so write it as rope_parameters, or leave it out"
        raise invalid(f"{path}.rope_scaling.rope_type", kind, expected)
    known = {f.name for f in fields(YarnOptions)}
    if set(options) - known:
        raise unknown_keywords(f"{path}.rope_scaling", set(options) - known, known)
    if options.get("pos_idx_in_fp32", True) is not True:
        raise invalid(f"{path}.rope_scaling.pos_idx_in_fp32", options["pos_idx_in_fp32"], "true")
    return SdkYarn(rotary_dim, base, max_positions, scale_base, YarnOptions(**options))


def _is_plain(rope_scaling: Mapping[str, Any], base: float) -> bool:
    """Whether a `rope_scaling` says no more than its absence: it is empty, or of the default type."""
    rest = {key: value for key, value in rope_scaling.items() if key not in ("type", "rope_type")}
    kind = rope_scaling.get("rope_type") or rope_scaling.get("type")
    return kind in (None, "default") and rest in ({}, {"rope_theta": base})
