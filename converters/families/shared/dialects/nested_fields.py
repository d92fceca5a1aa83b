"""A config inside a field of another, as training programs save it: its fields by dotted names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from converters.config.entries import Config, Entry, OneField
from converters.config.kinds import same, spelled
from converters.config.paths import unflatten
from converters.errors import ConfigRefused


@dataclass(frozen=True)
class Inside(OneField):
    """The object under the field `name`, whose own fields are the business of `entries`, by dotted names.

    free: dotted names that change no function. anywhere: last parts of names that change none, wherever they stand.
    older: beginnings of dotted names that had another name before, as (older, now). Unknown fields may be null.
    """

    name: str
    entries: tuple[Entry, ...]
    free: frozenset[str] = frozenset()
    anywhere: frozenset[str] = frozenset()
    older: tuple[tuple[str, str], ...] = ()

    @property
    def ours(self) -> tuple[str, ...]:
        """Those of all entries."""
        return tuple(path for entry in self.entries for path in entry.ours)

    @property
    def also(self) -> tuple[str, ...]:
        """Those of all entries."""
        return tuple(path for entry in self.entries for path in entry.also)

    def read(self, theirs: Config) -> dict[str, Any]:
        """What the entries read.

        Raises:
            ConfigRefused: there is no object, an entry refuses, or a field is unknown.
        """
        if not isinstance(theirs.get(self.name), Mapping):
            raise ConfigRefused(
                f"{self.name} is {spelled(theirs.get(self.name))}, expected an object with a model's sizes"
            )
        flat = {self._now(name): value for name, value in _leaves(theirs[self.name])}
        known = {name for entry in self.entries for name in entry.theirs} | self.free
        for name, value in flat.items():
            if name not in known and name.rpartition(".")[2] not in self.anywhere and value is not None:
                raise ConfigRefused(f"{self.name}.{name} is {spelled(value)}, which no rule knows; expected it absent")
        found: dict[str, Any] = {}
        for entry in self.entries:
            found.update(entry.read(flat))
        return found

    def write(self, ours: Config) -> dict[str, Any]:
        """The object, of what the entries write."""
        return {self.name: unflatten({name: v for entry in self.entries for name, v in entry.write(ours).items()})}

    def _now(self, name: str) -> str:
        found = next((pair for pair in self.older if name.startswith(pair[0])), ("", ""))
        return found[1] + name.removeprefix(found[0])


@dataclass(frozen=True)
class Must(OneField):
    """A field of theirs that has to be there and to have one value."""

    name: str
    value: Any
    ours: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def read(self, theirs: Config) -> dict[str, Any]:
        """Nothing, if it has that value.

        Raises:
            ConfigRefused: it has not.
        """
        if not same(theirs.get(self.name), self.value):
            raise ConfigRefused(f"{self.name} is {spelled(theirs.get(self.name))}, expected {spelled(self.value)}")
        return {}

    def write(self, ours: Config) -> dict[str, Any]:
        """The value."""
        return {self.name: self.value}


def _leaves(given: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{start}{name}.")
        else:
            yield start + name, value
