"""Kinds of config entries that dialects of nGPT need beside those of `converters.config.entries`."""

from dataclasses import dataclass
from typing import Any

from converters.config.cannot_hold import CannotHold, cannot_hold, uses
from converters.config.entries import Config, Entry, OneField
from converters.config.kinds import BOOL, Kind, same, spelled
from converters.errors import ConfigRefused


@dataclass(frozen=True)
class Idle(OneField):
    """A field of theirs that has to be sound and says nothing about the function; `default` is written."""

    name: str
    kind: Kind
    default: Any
    ours: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def read(self, theirs: Config) -> dict[str, Any]:
        """Nothing, if the value is sound."""
        value = theirs.get(self.name, self.default)
        if not self.kind.holds(value):
            raise ConfigRefused(f"{self.name} is {value!r}, expected {self.kind.words}")
        return {}

    def write(self, ours: Config) -> dict[str, Any]:
        """The default."""
        return {self.name: self.default}


@dataclass(frozen=True)
class Switch(OneField):
    """A field of theirs, true or false, that turns several paths of ours at once.

    paths: (path, value where it is on, value where it is off; None: absent). needed: the field has no default.
    """

    name: str
    paths: tuple[tuple[str, Any, Any], ...]
    needed: bool = False
    also: tuple[str, ...] = ()

    @property
    def ours(self) -> tuple[str, ...]:
        """The paths."""
        return tuple(path for path, _, _ in self.paths)

    def read(self, theirs: Config) -> dict[str, Any]:
        """The paths that are not absent.

        Raises:
            ConfigRefused: the field is missing, or neither true nor false.
        """
        value = theirs.get(self.name, None if self.needed else False)
        if not BOOL.holds(value):
            raise ConfigRefused(f"{self.name} is {spelled(value)}, expected {BOOL.words}")
        found = {path: on if value else off for path, on, off in self.paths}
        return {path: setting for path, setting in found.items() if setting is not None}

    def write(self, ours: Config) -> dict[str, Any]:
        """True or false, as all paths are.

        Raises:
            CannotHold: some are and some are not.
        """
        for value, settings in ((True, [on for _, on, _ in self.paths]), (False, [off for _, _, off in self.paths])):
            if all(same(ours.get(path), setting) for path, setting in zip(self.ours, settings, strict=True)):
                return {self.name: value}
        found = uses(*((path, ours.get(path)) for path in self.ours))
        raise CannotHold(found, "all of these alike", f"{self.name}, for {', '.join(self.ours)}")


@dataclass(frozen=True)
class WholePairs:
    """A rotary embedding turns pairs, so a head has an even width; under their names of width and heads."""

    width: str = "n_embd"
    heads: str = "n_head"
    theirs: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def read(self, theirs: Config) -> dict[str, Any]:
        """Nothing, if it has.

        Raises:
            ConfigRefused: it has not.
        """
        width, heads = theirs[self.width], theirs[self.heads]
        if width // heads % 2:
            raise ConfigRefused(f"{self.heads} {heads} gives heads of width {width // heads}; pairs need an even one")
        return {}

    def write(self, ours: Config) -> dict[str, Any]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class Either:
    """A field of theirs that chooses between kinds of models, as a path of ours does; each has entries of its own.

    kinds: (value of theirs, value of ours, entries).
    """

    name: str
    path: str
    kinds: tuple[tuple[Any, str, tuple[Entry, ...]], ...]

    @property
    def theirs(self) -> tuple[str, ...]:
        """The field, and those of all kinds."""
        return (self.name, *dict.fromkeys(name for _, _, entries in self.kinds for e in entries for name in e.theirs))

    @property
    def ours(self) -> tuple[str, ...]:
        """The path, and those of all kinds."""
        return (self.path, *dict.fromkeys(path for _, _, entries in self.kinds for e in entries for path in e.ours))

    @property
    def also(self) -> tuple[str, ...]:
        """Those of all kinds."""
        return tuple(dict.fromkeys(path for _, _, entries in self.kinds for e in entries for path in e.also))

    def read(self, theirs: Config) -> dict[str, Any]:
        """What the entries of the chosen kind read.

        Raises:
            ConfigRefused: there is no such kind, or an entry refuses.
        """
        for value, ours, entries in self.kinds:
            if same(theirs.get(self.name), value):
                return {self.path: ours, **_merged(entry.read(theirs) for entry in entries)}
        known = " or ".join(repr(value) for value, _, _ in self.kinds)
        raise ConfigRefused(f"{self.name} is {theirs.get(self.name)!r}, expected {known}")

    def write(self, ours: Config) -> dict[str, Any]:
        """The field, and what the entries of the kind that ours is write.

        Raises:
            CannotHold: ours is of no kind, an entry refuses, or ours says what only another kind can say.
        """
        for value, kind, entries in self.kinds:
            if ours.get(self.path) != kind:
                continue
            said = {self.path, *(path for entry in entries for path in (*entry.ours, *entry.also))}
            for path in self.ours:
                if path not in said and ours.get(path) is not None:
                    raise CannotHold(uses((path, ours[path])), f"none where {self.path} is {kind!r}", path)
            return {self.name: value, **_merged(entry.write(ours) for entry in entries)}
        raise cannot_hold(self.path, ours.get(self.path), [kind for _, kind, _ in self.kinds])


def _merged(parts: Any) -> dict[str, Any]:
    """All parts as one; those that say the same field agree."""
    merged: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if not same(merged.setdefault(name, value), value):
                raise ConfigRefused(f"{name} would have to be {merged[name]!r} and {value!r} at once")
    return merged
