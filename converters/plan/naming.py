"""Key names that a wrapper changed: its prefix is removed before planning and added again on the way back.

`torch.compile` puts `_orig_mod.` before every key, DataParallel and DistributedDataParallel put `module.`, and a
checkpoint of the model without a head has no `model.`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from converters.checkpoint.checkpoint import Checkpoint
from converters.errors import ConfigRefused

WRAPPERS = ("_orig_mod.", "module.")


@dataclass(frozen=True)
class Naming:
    """`prefix` stands before every stored key; `bare`: the family's own `base` prefix is left out."""

    prefix: str = ""
    base: str = ""
    bare: bool = False

    def stored(self, key: str) -> str:
        """A family's key as it is stored."""
        return self.prefix + (key.removeprefix(self.base) if self.bare else key)

    def own(self, stored: str, heads: tuple[str, ...]) -> str:
        """The family's key for a stored key; keys of the head have no base prefix."""
        key = stored.removeprefix(self.prefix)
        return self.base + key if self.bare and not key.startswith(heads) else key

    def residue(self) -> dict[str, Any]:
        """What the residue keeps for the way back."""
        found: dict[str, Any] = {"prefix": self.prefix} if self.prefix else {}
        return {**found, "bare": True} if self.bare else found


def find_naming(keys: Mapping[str, object], base: str, heads: tuple[str, ...]) -> Naming:
    """The prefix of a set of stored keys, if all of them have it."""
    prefix, rest = "", list(keys)
    while shared := next((w for w in WRAPPERS if rest and all(key.startswith(w) for key in rest)), None):
        prefix += shared
        rest = [key.removeprefix(shared) for key in rest]
    bare = (
        bool(base) and not any(key.startswith(base) for key in rest) and any(not key.startswith(heads) for key in rest)
    )
    return Naming(prefix, base, bare)


def naming_of(residue: Mapping[str, Any], base: str) -> Naming:
    """The naming in the residue.

    Raises:
        ConfigRefused: the residue was changed by hand.
    """
    said = residue.get("keys", {})
    prefix = said.get("prefix", "") if isinstance(said, dict) else None
    bare = said.get("bare", False) if isinstance(said, dict) else None
    if (
        not isinstance(prefix, str)
        or not re.fullmatch(r"(_orig_mod\.|module\.)*", prefix)
        or not isinstance(bare, bool)
    ):
        raise ConfigRefused(f"converted_from.keys in config.json was changed by hand: it is {said!r}; remove it")
    return Naming(prefix, base, bare)


def unwrapped(source: Checkpoint, naming: Naming, heads: tuple[str, ...]) -> Checkpoint:
    """The checkpoint under the family's own key names; each tensor keeps the name it is stored under."""
    tensors = {naming.own(name, heads): tensor for name, tensor in source.tensors.items()}
    return replace(source, tensors={key: replace(tensor, key=key) for key, tensor in tensors.items()})
