"""Biases that only one side has: they are zero, which is the same function.

nanoGPT can have no biases, GPT-2 always has all of them, and an MLP of ours always has its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converters.algebra.moves import Fill, Vanish
from converters.checkpoint.casts import NAMES
from converters.config.cannot_hold import CannotHold
from converters.config.entries import Config
from converters.config.kinds import BOOL, spelled
from converters.errors import ConfigRefused
from converters.families.shared.transformers_fields import MIXER, NORM
from converters.family import Rule

PATHS = (MIXER + "bias", MIXER + "out_bias", NORM + "bias")


@dataclass(frozen=True)
class BiasFlag:
    """One flag for the biases of attention and of norms.

    name: its field in theirs. Without a field theirs has all biases, and those that ours does not have are zero.
    """

    name: str = ""

    @property
    def theirs(self) -> tuple[str, ...]:
        """The field, if there is one."""
        return (self.name,) if self.name else ()

    @property
    def ours(self) -> tuple[str, ...]:
        """The paths, if there is a field."""
        return PATHS if self.name else ()

    @property
    def also(self) -> tuple[str, ...]:
        """The paths, if there is none."""
        return () if self.name else PATHS

    def read(self, theirs: Config) -> dict[str, Any]:
        """Flags of ours; that of norms is written only if it is off."""
        bias = theirs.get(self.name, True) if self.name else True
        if not BOOL.holds(bias):
            raise ConfigRefused(f"{self.name} is {bias!r}, expected {BOOL.words}")
        return {MIXER + "bias": bias, MIXER + "out_bias": bias, **({} if bias else {NORM + "bias": False})}

    def write(self, ours: Config) -> dict[str, Any]:
        """The flag.

        Raises:
            CannotHold: some of them are on and some off.
        """
        found = {path: ours.get(path, True) for path in PATHS}
        if len(set(map(bool, found.values()))) != 1:
            said = ", ".join(f"{path} {spelled(value)}" for path, value in found.items())
            raise CannotHold("it uses only some of the biases", "all or none", said)
        return {self.name: bool(ours[MIXER + "bias"])} if self.name else {}


def has_biases(ours: Mapping[str, Any]) -> bool:
    """Whether attention and norms of ours have biases."""
    return bool(ours[MIXER + "bias"])


def zero_in_theirs(ours: Mapping[str, Any], key: str, size: str) -> Rule:
    """A bias that only theirs has."""
    return Rule((key,), (), Vanish((size,), _dtype(ours)))


def zero_in_ours(ours: Mapping[str, Any], key: str, size: str) -> Rule:
    """A bias that only ours has."""
    return Rule((), (key,), Fill((size,), _dtype(ours)))


def _dtype(ours: Mapping[str, Any]) -> str:
    dtype = NAMES.get(str(ours.get("dtype")))
    if dtype is None:
        raise ConfigRefused(
            f"dtype is {spelled(ours.get('dtype'))}, but the missing biases, which are zero, need a dtype; pass --dtype"
        )
    return dtype
