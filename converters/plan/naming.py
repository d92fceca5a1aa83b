"""Key names that a wrapper changed: they are undone before planning and made again on the way back.

See `converters.generations.wrappers`. Besides, a checkpoint of the model without a head has no `model.`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from converters.checkpoint.checkpoint import Checkpoint
from converters.errors import ConfigRefused
from converters.generations.wrappers import WRITTEN, Wrapping, find_wrapping


@dataclass(frozen=True)
class Naming:
    """`wrapping`: the wrappers in stored keys; `bare`: the family's own `base` prefix is left out."""

    wrapping: Wrapping = field(default_factory=Wrapping)
    base: str = ""
    bare: bool = False

    def stored(self, key: str) -> str:
        """A family's key as it is stored."""
        return self.wrapping.stored(key.removeprefix(self.base) if self.bare else key)

    def own(self, stored: str, heads: tuple[str, ...]) -> str:
        """The family's key for a stored key; keys of the head have no base prefix."""
        key = self.wrapping.own(stored)
        return self.base + key if self.bare and not key.startswith(heads) else key

    def residue(self) -> dict[str, Any]:
        """What the residue keeps for the way back."""
        prefix = self.wrapping.at.get("")
        inside = {path: wrapper for path, wrapper in self.wrapping.at.items() if path}
        found = {"prefix": prefix, "inside": inside, "bare": self.bare}
        return {name: value for name, value in found.items() if value}


def find_naming(keys: Mapping[str, object], base: str, heads: tuple[str, ...]) -> Naming:
    """The naming of a set of stored keys."""
    wrapping = find_wrapping(keys, own=".".join((base, *heads)).split("."))
    rest = [wrapping.own(key) for key in keys]
    bare = (
        bool(base) and not any(key.startswith(base) for key in rest) and any(not key.startswith(heads) for key in rest)
    )
    return Naming(wrapping, base, bare)


def naming_of(residue: Mapping[str, Any], base: str) -> Naming:
    """The naming in the residue.

    Raises:
        ConfigRefused: the residue was changed by hand.
    """
    said = residue.get("keys", {})
    known = said if isinstance(said, dict) else {"bare": None}
    inside, bare = known.get("inside", {}), known.get("bare", False)
    at = {"": known.get("prefix", ""), **inside} if isinstance(inside, dict) else {"": None}
    sound = all(isinstance(wrapper, str) and (not wrapper or WRITTEN.fullmatch(wrapper)) for wrapper in at.values())
    if not sound or not isinstance(bare, bool):
        raise ConfigRefused(f"converted_from.keys in config.json was changed by hand: it is {said!r}; remove it")
    return Naming(Wrapping({path: wrapper for path, wrapper in at.items() if wrapper}), base, bare)


def unwrapped(source: Checkpoint, naming: Naming, heads: tuple[str, ...]) -> Checkpoint:
    """The checkpoint under the family's own key names; each tensor keeps the name it is stored under."""
    tensors = {naming.own(name, heads): tensor for name, tensor in source.tensors.items()}
    return replace(source, tensors={key: replace(tensor, key=key) for key, tensor in tensors.items()})
