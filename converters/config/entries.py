"""Entries of a config table: how one field of theirs is written in a MixFormer config, and which values are allowed.

An entry reads a config of theirs and gives dotted paths of ours (`read`), and writes fields of theirs from a resolved
config of ours (`write`). It has no state, so a table of entries is a description of two formats.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from converters.config.cannot_hold import CannotHold, cannot_hold, uses
from converters.config.kinds import BOOL, Kind, same, spelled
from converters.errors import ConfigRefused

Config = Mapping[str, Any]
_REQUIRED = object()


class Entry(Protocol):
    """One line of a config table."""

    @property
    def theirs(self) -> tuple[str, ...]:
        """Fields of theirs that this entry accounts for."""
        ...

    @property
    def ours(self) -> tuple[str, ...]:
        """Paths of ours that hold the value and are read back."""
        ...

    @property
    def also(self) -> tuple[str, ...]:
        """Further paths of ours that this entry accounts for; they are never read."""
        ...

    def read(self, theirs: Config) -> dict[str, Any]:
        """Paths of ours and their values.

        Raises:
            ConfigRefused: a value is missing or not allowed.
        """
        ...

    def write(self, ours: Config) -> dict[str, Any]:
        """Fields of theirs and their values, from a resolved config of ours.

        Raises:
            CannotHold: the family cannot hold the value.
        """
        ...


@runtime_checkable
class Losing(Protocol):
    """An entry whose paths change no logits and have no place in theirs: they are left out, which a note says."""

    def lost(self, ours: Config) -> dict[str, Any]:
        """The paths of a resolved config of ours, and the values, that are left out."""
        ...


class OneField:
    """An entry of one field of theirs."""

    name: str

    @property
    def theirs(self) -> tuple[str, ...]:
        """The field."""
        return (self.name,)


class OnePath:
    """An entry of one path of ours."""

    path: str

    @property
    def ours(self) -> tuple[str, ...]:
        """The path."""
        return (self.path,)


@dataclass(frozen=True)
class Field:
    """A field that both sides have, with the same value.

    name: theirs. ours: the paths that carry the value and are read back; they must agree. default: the value where
    theirs lacks the field, or a function of theirs that gives it. none: null in theirs means the default too. aliases:
    older names of the field in theirs. also: paths of ours that get the value and are not read back. unwritten: paths
    of `ours` that are not written, because they follow from others. synonyms: other words of theirs for a
    value, as pairs of word and value.
    """

    name: str
    ours: tuple[str, ...]
    kind: Kind
    default: Any = field(default=_REQUIRED)
    none: bool = False
    aliases: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    unwritten: tuple[str, ...] = ()
    synonyms: tuple[tuple[Any, Any], ...] = ()

    @property
    def theirs(self) -> tuple[str, ...]:
        """The field and its older names."""
        return (self.name, *self.aliases)

    def read(self, theirs: Config) -> dict[str, Any]:
        """The value under each written path of ours."""
        value = self._value(theirs)
        if not self.kind.holds(value):
            raise ConfigRefused(f"{self.name} is {spelled(value)}, expected {self.kind.words}")
        return {path: value for path in (*self.ours, *self.also) if path not in self.unwritten}

    def _value(self, theirs: Config) -> Any:
        given = {name: theirs[name] for name in self.theirs if name in theirs}
        values = [self._meant(value) for value in given.values()]
        if any(not same(value, values[0]) for value in values[1:]):
            said = " and ".join(f"{name} is {spelled(value)}" for name, value in given.items())
            raise ConfigRefused(f"{said}; expected one value")
        if values and not (self.none and values[0] is None):
            return values[0]
        if self.default is _REQUIRED:
            raise ConfigRefused(f"{self.name} is missing; expected {self.kind.words}")
        return self.default(theirs) if callable(self.default) else self.default

    def _meant(self, said: Any) -> Any:
        return next((value for word, value in self.synonyms if same(word, said)), said)

    def write(self, ours: Config) -> dict[str, Any]:
        """The value read back."""
        value = ours.get(self.ours[0])
        for path in self.ours[1:]:
            if not same(ours.get(path), value):
                found = uses((self.ours[0], value), (path, ours.get(path)))
                raise CannotHold(found, "one value for both", f"{self.name} is one field for {self.ours[0]} and {path}")
        if not self.kind.holds(value):
            raise CannotHold(uses((self.ours[0], value)), self.kind.words, self.ours[0])
        return {self.name: value}


@dataclass(frozen=True)
class Ours(OnePath):
    """A path of ours that theirs has no field for: only models with one of these values can be converted.

    The first value is what a conversion writes, unless `written` is off.
    """

    path: str
    values: tuple[Any, ...]
    written: bool = True
    theirs: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def read(self, theirs: Config) -> dict[str, Any]:
        """The first value, if it is written."""
        return {self.path: self.values[0]} if self.written else {}

    def write(self, ours: Config) -> dict[str, Any]:
        """Nothing, if the family can hold the value."""
        value = ours.get(self.path)
        if not any(same(value, known) for known in self.values):
            raise cannot_hold(self.path, value, self.values)
        return {}


@dataclass(frozen=True)
class Written:
    """A path of ours that a conversion writes and never reads back."""

    path: str
    value: Any
    theirs: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()

    @property
    def also(self) -> tuple[str, ...]:
        """The path."""
        return (self.path,)

    def read(self, theirs: Config) -> dict[str, Any]:
        """The value."""
        return {self.path: self.value}

    def write(self, ours: Config) -> dict[str, Any]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class Theirs(OneField):
    """A field of theirs that ours has no field for: only models with one of these values can be converted.

    The first of `values` is written on the way back, unless `written` is off. The field may be absent. kind: further
    values, too many to list. remedy: what to do about any other value.
    """

    name: str
    values: tuple[Any, ...]
    remedy: str = ""
    written: bool = True
    kind: Kind | None = None
    ours: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def holds(self, value: Any) -> bool:
        """Whether a value is the same function."""
        return any(same(value, known) for known in self.values) or (self.kind is not None and self.kind.holds(value))

    def read(self, theirs: Config) -> dict[str, Any]:
        """Nothing, if the value can be converted."""
        if self.name in theirs and not self.holds(theirs[self.name]):
            known = " or ".join([*map(spelled, self.values), *([self.kind.words] if self.kind else [])])
            remedy = f"; {self.remedy}" if self.remedy else ""
            found = spelled(theirs[self.name])
            raise ConfigRefused(f"this model cannot be converted: {self.name} is {found}, expected {known}{remedy}")
        return {}

    def write(self, ours: Config) -> dict[str, Any]:
        """The first value, if it is written."""
        return {self.name: self.values[0]} if self.written else {}


@dataclass(frozen=True)
class Choice(OneField, OnePath):
    """A field of theirs that chooses between values of a path of ours: (theirs, ours) pairs, the first by default."""

    name: str
    path: str
    pairs: tuple[tuple[Any, Any], ...]
    also: tuple[str, ...] = ()

    def read(self, theirs: Config) -> dict[str, Any]:
        """The value of ours that goes with theirs."""
        value = theirs.get(self.name, self.pairs[0][0])
        for one, other in self.pairs:
            if same(value, one):
                return {self.path: other}
        known = " or ".join(spelled(one) for one, _ in self.pairs)
        raise ConfigRefused(f"{self.name} is {spelled(value)}, expected {known}")

    def write(self, ours: Config) -> dict[str, Any]:
        """The value of theirs that goes with ours."""
        value = ours.get(self.path)
        for one, other in self.pairs:
            if same(value, other):
                return {self.name: one}
        raise cannot_hold(self.path, value, [other for _, other in self.pairs])


@dataclass(frozen=True)
class Flag(OneField, OnePath):
    """A switch that both sides have; in ours it is written only if it is on."""

    name: str
    path: str
    also: tuple[str, ...] = ()

    def read(self, theirs: Config) -> dict[str, Any]:
        """The path, if the switch is on."""
        value = theirs.get(self.name, False)
        if not BOOL.holds(value):
            raise ConfigRefused(f"{self.name} is {spelled(value)}, expected {BOOL.words}")
        return {self.path: True} if value else {}

    def write(self, ours: Config) -> dict[str, Any]:
        """Whether the switch is on."""
        value = ours.get(self.path)
        if not BOOL.holds(value):
            raise ConfigRefused(f"{self.path} is {spelled(value)}, expected {BOOL.words}")
        return {self.name: value}
