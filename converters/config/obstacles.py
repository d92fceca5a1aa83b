"""All that stands in the way of a config, told at once: who mends one field should not find the next one behind it."""

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from converters.errors import ConfigRefused, nearest

FOLLOWING = (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError)
REFUSAL = re.compile(r"(this model cannot be converted|\S+ cannot hold this model): ")
NO_TYPO = 0.9  # of a field's name: less alike, and it is another word


@dataclass
class Obstacles:
    """Sentences that were raised while a config was looked at. `first`: those that come before all others."""

    told: list[str] = field(default_factory=list)
    first: list[str] = field(default_factory=list)

    @contextmanager
    def collecting(self, *, first: bool = False) -> Iterator[None]:
        """Keeps a refusal. Any other error is raised, unless it can follow from what was refused before."""
        try:
            yield
        except ConfigRefused as refusal:
            (self.first if first else self.told).append(str(refusal))
        except FOLLOWING:
            if not self.told and not self.first:
                raise

    def check(self) -> None:
        """Raises ConfigRefused with all sentences, if there are any."""
        if sentences := list(dict.fromkeys((*self.first, *self.told))):
            raise ConfigRefused(together(sentences))


def together(sentences: Sequence[str]) -> str:
    """One sentence as it is; several below each other, and what they begin with said once."""
    if len(sentences) == 1:
        return sentences[0]
    start = next((found[1] for sentence in sentences if (found := REFUSAL.match(sentence))), "config.json is refused")
    lines = [sentence.removeprefix(f"{start}: ") for sentence in sentences]
    return "\n  - ".join([f"{start}, for {len(lines)} reasons:", *lines])


def unknown_fields(names: Iterable[str], said: Collection[str], known: Iterable[str]) -> str:
    """What to do about fields that no entry knows, as words that can be pasted; `said`: all fields of the config."""
    names, free = list(names), sorted(set(known) - set(said))
    listed = ", ".join(f"{name}{nearest(name, free, NO_TYPO)}" for name in names)
    words = " ".join(f"--waive {shlex.quote(name)}" for name in names)
    return (
        f"config.json has unknown fields: {listed}. They may change what the model computes. "
        f"If you know that they do not, add: {words}"
    )


def foreign_fields(names: Iterable[str], family: str) -> str:
    """The same for a model of another architecture, which no waiver turns into one of this family."""
    return f"config.json has fields that a {family} does not have: {', '.join(names)}"
