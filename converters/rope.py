"""Rotary position embeddings in theirs' configs: one meaning, two spellings.

Since transformers 5 a config says `rope_parameters: {rope_theta, rope_type, ...}`; before, it said `rope_theta` and
`rope_scaling: {type or rope_type, ...}`. Both are read. Both are written: readers of either age find their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converters.errors import ConfigRefused
from converters.fields import POSITIVE, same


@dataclass(frozen=True)
class Rope:
    """The entry for the default rope type over the whole head."""

    default_theta: float
    theirs: tuple[str, ...] = ("rope_theta", "rope_parameters", "rope_scaling")
    ours: tuple[str, ...] = ("architecture.mixer.rotary_base",)
    also: tuple[str, ...] = ()

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """`rotary_base` of the mixer.

        Raises:
            ConfigRefused: another rope type, an unknown parameter, an unsound theta, or two that differ.
        """
        parameters = {**_object(theirs, "rope_scaling"), **_object(theirs, "rope_parameters")}
        kind = parameters.pop("rope_type", parameters.pop("type", "default"))
        parameters.pop("type", None)
        if kind != "default":
            raise ConfigRefused(f"rope_type is {kind!r}, which is not converted yet, only 'default' is")
        thetas = [source["rope_theta"] for source in (parameters, theirs) if "rope_theta" in source]
        parameters.pop("rope_theta", None)
        if parameters:
            raise ConfigRefused(f"rope_parameters.{sorted(parameters)[0]} is not converted yet")
        theta = thetas[0] if thetas else self.default_theta
        if not POSITIVE.holds(theta):
            raise ConfigRefused(f"rope_theta is {theta!r}, expected {POSITIVE.words}")
        if not all(same(theta, other) for other in thetas):
            raise ConfigRefused(f"rope_theta is {thetas[1]} and rope_parameters.rope_theta {thetas[0]}; which is it?")
        return {self.ours[0]: theta}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Both spellings."""
        theta = ours[self.ours[0]]
        if not POSITIVE.holds(theta):
            raise ConfigRefused(f"{self.ours[0]} is {theta!r}, expected {POSITIVE.words}")
        return {"rope_theta": theta, "rope_parameters": {"rope_theta": theta, "rope_type": "default"}}


def _object(theirs: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = theirs.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigRefused(f"{name} is {value!r}, expected an object or null")
    return dict(value)
