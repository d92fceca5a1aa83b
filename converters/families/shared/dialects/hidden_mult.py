"""The width of an MLP as a multiple of the width of the model, of which a gated unit takes two thirds."""

from dataclasses import dataclass
from typing import Any

from converters.config.entries import Config
from converters.config.kinds import POSITIVE
from converters.errors import ConfigRefused
from converters.families.shared.transformers_fields import MLP

MULT = "mlp_hidden_mult"


@dataclass(frozen=True)
class HiddenMult:
    """The width of the MLP is int(dim * mlp_hidden_mult * 2 / 3)."""

    theirs: tuple[str, ...] = (MULT,)
    ours: tuple[str, ...] = (MLP + "n_inner",)
    also: tuple[str, ...] = ("n_inner",)

    def read(self, theirs: Config) -> dict[str, Any]:
        """The width.

        Raises:
            ConfigRefused: the multiple is no positive number, or gives no width.
        """
        mult = theirs.get(MULT, 4)
        width = int(theirs["dim"] * mult * 2 / 3) if POSITIVE.holds(mult) else 0
        if width < 1:
            raise ConfigRefused(f"{MULT} is {mult!r}, expected a positive number that gives an MLP a width")
        return dict.fromkeys((*self.ours, *self.also), width)

    def write(self, ours: Config) -> dict[str, Any]:
        """The least multiple of 1 / (2 dim) that gives the width."""
        width, inner = ours["n_embd"], ours[MLP + "n_inner"]
        found = next(
            mult for mult in (inner * 1.5 / width, (inner + 0.5) * 1.5 / width) if int(width * mult * 2 / 3) == inner
        )
        return {MULT: int(found) if found == int(found) else found}
