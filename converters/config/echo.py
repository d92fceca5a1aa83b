"""An entry for a field that repeats others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from converters.config.entries import Config, OneField
from converters.config.kinds import same, spelled
from converters.errors import ConfigRefused


@dataclass(frozen=True)
class Echo(OneField):
    """A field of theirs that repeats what other fields say and that nothing reads: sound where it says the same.

    value: what it repeats, of a whole config. words: the same, for a person. written: it is written on the way back,
    for readers that want it, and then may say anything.
    """

    name: str
    value: Callable[[Config], Any]
    words: str
    written: bool = False
    ours: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def read(self, theirs: Config) -> dict[str, Any]:
        """Nothing, if it says the same."""
        if self.name in theirs and not self.written and not same(theirs[self.name], self.value(theirs)):
            found, wanted = spelled(theirs[self.name]), spelled(self.value(theirs))
            raise ConfigRefused(
                f"{self.name} is {found} and {self.words} {wanted}, which should be the same; correct the one that is"
                f" wrong"
            )
        return {}

    def write(self, ours: Config) -> dict[str, Any]:
        """What it repeats, if it is written; `value` is then asked with ours."""
        return {self.name: self.value(ours)} if self.written else {}
