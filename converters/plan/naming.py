"""Key names that a wrapper or another program changed: undone before planning and made again on the way back.

Wrappers: see `converters.generations.wrappers`. Besides: all keys may have one foreign prefix, as those of a merged
adapter; a checkpoint of the model without a head has no `model.`; a head may have an older name; and of a tied pair the
head may be the one that is stored.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from converters.checkpoint.checkpoint import Checkpoint
from converters.errors import ConfigRefused
from converters.family import Family
from converters.generations.wrappers import WRITTEN, Wrapping, find_wrapping

FOREIGN = re.compile(r"(\w{1,60}\.){0,8}")


@dataclass(frozen=True)
class Naming:
    """`wrapping`: the wrappers in stored keys; `foreign`: what stands before all of them; `bare`: the family's own
    `base` prefix is left out; `renamed`: a family's key -> another that it is stored under."""

    wrapping: Wrapping = field(default_factory=Wrapping)
    base: str = ""
    bare: bool = False
    foreign: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether transformers does not find the tensors under these names."""
        return bool(self.wrapping.at or self.foreign or self.renamed)

    def stored(self, key: str) -> str:
        """A family's key as it is stored."""
        key = self.renamed.get(key, key)
        return self.wrapping.stored(self.foreign + (key.removeprefix(self.base) if self.bare else key))

    def own(self, stored: str, heads: tuple[str, ...]) -> str:
        """The family's key for a stored key; keys of the head have no base prefix."""
        key = self.wrapping.own(stored).removeprefix(self.foreign)
        key = self.base + key if self.bare and not key.startswith(heads) else key
        return {other: own for own, other in self.renamed.items()}.get(key, key)

    def residue(self) -> dict[str, Any]:
        """What the residue keeps for the way back."""
        prefix = self.wrapping.at.get("")
        inside = {path: wrapper for path, wrapper in self.wrapping.at.items() if path}
        found = {"prefix": prefix, "inside": inside, "bare": self.bare, "foreign": self.foreign}
        return {name: value for name, value in (found | {"renamed": dict(self.renamed)}).items() if value}


def find_naming(keys: Mapping[str, object], base: str, heads: tuple[str, ...]) -> Naming:
    """The naming of a set of stored keys."""
    wrapping = find_wrapping(keys, own=".".join((base, *heads)).split("."))
    rest = [wrapping.own(key) for key in keys]
    foreign = _foreign(rest, (base, *heads)) if base else ""
    rest = [key.removeprefix(foreign) for key in rest]
    bare = (
        bool(base) and not any(key.startswith(base) for key in rest) and any(not key.startswith(heads) for key in rest)
    )
    return Naming(wrapping, base, bare, foreign)


def _foreign(keys: Collection[str], known: tuple[str, ...]) -> str:
    """The longest prefix that all keys have, and behind which each begins as the family's do; empty if there is none.

    A doubled `model.` is one too: the keys of a LLaMA have it once.
    """
    segments = next(iter(keys), "").split(".")[:-1]
    tries = ["".join(f"{segment}." for segment in segments[:n]) for n in range(len(segments), 0, -1)]
    return next((prefix for prefix in tries if _all_behind(prefix, keys, known)), "")


def _all_behind(prefix: str, keys: Iterable[str], known: tuple[str, ...]) -> bool:
    """Whether all keys have a prefix, and behind it each is one of the family."""
    return all(key.startswith(prefix) and key[len(prefix) :].startswith(known) for key in keys)


def naming_in(source: Checkpoint, family: Family) -> Naming:
    """The naming of a checkpoint of a family."""
    naming = find_naming(source.tensors, family.base, (family.head_prefix,))
    keys = {naming.own(name, (family.head_prefix,)) for name in source.tensors}
    older = [name for name in family.head_names if name in keys] if family.head not in keys else []
    renamed = {family.head: older[0]} if older else {}
    head = older[0] if older else family.head
    tied = source.config.get("tie_word_embeddings", family.tied) is True
    if tied and family.embedding and family.embedding not in keys and head in keys:
        renamed = {family.embedding: head}
    return replace(naming, renamed=renamed)


def naming_of(residue: Mapping[str, Any], family: Family, keys: Collection[str] = ()) -> Naming:
    """The naming in the residue; `keys`: those of the family that are to be written, which no other may take.

    Raises:
        ConfigRefused: the residue was changed by hand.
    """
    said = residue.get("keys", {})
    known: dict[str, Any] = said if isinstance(said, dict) else {"bare": None}
    inside, bare, foreign = known.get("inside", {}), known.get("bare", False), known.get("foreign", "")
    at = {"": known.get("prefix", ""), **inside} if isinstance(inside, dict) else {"": None}
    sound = all(isinstance(wrapper, str) and (not wrapper or WRITTEN.fullmatch(wrapper)) for wrapper in at.values())
    sound = sound and isinstance(foreign, str) and FOREIGN.fullmatch(foreign) is not None
    renamed = known.get("renamed", {})
    names = {family.head: family.head_names, family.embedding: (family.head, *family.head_names)}
    sound = sound and isinstance(renamed, dict) and all(name in names.get(own, ()) for own, name in renamed.items())
    if not sound or not isinstance(bare, bool):
        raise ConfigRefused(f"converted_from.keys in config.json was changed by hand: it is {said!r}; remove it")
    wrapping = Wrapping({path: wrapper for path, wrapper in at.items() if wrapper})
    free = {own: name for own, name in renamed.items() if name not in keys}
    return Naming(wrapping, family.base, bare, foreign, free)


def unwrapped(source: Checkpoint, naming: Naming, heads: tuple[str, ...]) -> Checkpoint:
    """The checkpoint under the family's own key names; each tensor keeps the name it is stored under."""
    tensors = {naming.own(name, heads): tensor for name, tensor in source.tensors.items()}
    return replace(source, tensors={key: replace(tensor, key=key) for key, tensor in tensors.items()})
