"""Config entries of Meta's `params.json`: the width of the MLP by a formula, and scaled rotary embeddings."""

from collections.abc import Mapping
from typing import Any

from converters.config.cannot_hold import CannotHold
from converters.config.entries import Config
from converters.config.kinds import BOOL, POSITIVE, POSITIVE_INT, same, spelled
from converters.errors import ConfigRefused
from converters.families.shared.rope import BASE, PARAMETERS
from converters.families.shared.transformers_fields import MLP

LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ORIGINAL = 8192  # context of LLaMA 3 before its rotary embedding was scaled
USUAL_FACTOR = 8.0  # of Meta's code, where params.json has none


def two_thirds(dim: int) -> int:
    """The width before it is rounded: two thirds of 4 dim."""
    return int(2 * (4 * dim) / 3)


class InnerWidth:
    """n_inner = 2/3 of 4 dim, times `ffn_dim_multiplier`, up to a multiple of `multiple_of` (`model.py` of LLaMA 2)."""

    theirs: tuple[str, ...] = ("multiple_of", "ffn_dim_multiplier")
    ours: tuple[str, ...] = (MLP + "n_inner",)
    also: tuple[str, ...] = ("n_inner",)

    def read(self, theirs: Config) -> dict[str, Any]:
        """The width.

        Raises:
            ConfigRefused: a number is unsound.
        """
        multiple, factor = theirs.get("multiple_of", 256), theirs.get("ffn_dim_multiplier")
        if not POSITIVE_INT.holds(multiple):
            raise ConfigRefused(f"multiple_of is {multiple!r}, expected {POSITIVE_INT.words}")
        if factor is not None and not (POSITIVE.holds(factor) and factor < 1e6):
            raise ConfigRefused(f"ffn_dim_multiplier is {factor!r}, expected {POSITIVE.words} or null")
        width = two_thirds(theirs["dim"])
        width = int(factor * width) if factor is not None else width
        return dict.fromkeys((*self.ours, *self.also), -(-width // multiple) * multiple)

    def write(self, ours: Config) -> dict[str, Any]:
        """Values for which the formula gives this width; others would too."""
        width, usual = ours[MLP + "n_inner"], two_thirds(ours["n_embd"])
        if width >= usual:
            return {"multiple_of": width}
        return {"multiple_of": 1, "ffn_dim_multiplier": (width + 0.5) / usual}


class MetaRope:
    """`rope_theta`, and `use_scaled_rope` of LLaMA 3.1, whose other parameters are constants in Meta's code."""

    theirs: tuple[str, ...] = ("rope_theta", "use_scaled_rope", "rope_scaling_factor")
    ours: tuple[str, ...] = (BASE, PARAMETERS)
    also: tuple[str, ...] = ()

    def read(self, theirs: Config) -> dict[str, Any]:
        """`rotary_base`, and `rope_parameters` where they are scaled.

        Raises:
            ConfigRefused: a value is unsound.
        """
        theta, scaled = theirs.get("rope_theta", 10000.0), theirs.get("use_scaled_rope", False)
        factor = theirs.get("rope_scaling_factor")
        if not POSITIVE.holds(theta) or not BOOL.holds(scaled) or not (factor is None or POSITIVE.holds(factor)):
            said = zip(self.theirs, (theta, scaled, factor), strict=True)
            listed = ", ".join(f"{name} is {spelled(value)}" for name, value in said)
            raise ConfigRefused(f"{listed}; expected a positive number, true or false, and a positive number or null")
        if not scaled:
            return {BASE: theta}
        return {BASE: theta, PARAMETERS: llama3(theta, USUAL_FACTOR if factor is None else factor)}

    def write(self, ours: Config) -> dict[str, Any]:
        """Theta, and the factor of a scaling of LLaMA 3.1.

        Raises:
            CannotHold: another rope type, or other constants.
        """
        theta, given = ours[BASE], ours.get(PARAMETERS)
        if given is None:
            return {"rope_theta": theta}
        return {"rope_theta": theta, "use_scaled_rope": True, "rope_scaling_factor": llama3_factor(given, theta)}


def llama3(theta: Any, factor: Any) -> dict[str, Any]:
    """The rope parameters of LLaMA 3.1 with a factor."""
    return {**LLAMA3, "factor": factor, "original_max_position_embeddings": ORIGINAL, "rope_theta": theta}


def llama3_factor(given: Any, theta: Any) -> Any:
    """The factor of rope parameters that are LLaMA 3.1's.

    Raises:
        CannotHold: they are others.
    """
    factor = given.get("factor") if isinstance(given, Mapping) else None
    if not POSITIVE.holds(factor) or not same(dict(given), llama3(theta, factor)):
        uses = f"it uses the rotary scaling {given!r}"
        raise CannotHold(uses, f"that of LLaMA 3.1, such as {llama3(theta, 8.0)}", PARAMETERS)
    return factor
