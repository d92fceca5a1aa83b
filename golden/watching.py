"""Following a judgement while it runs: each level is told when it is reached, with the time that it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from golden.verdict import LevelResult, Status

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)``; ``total`` counts prompts, bytes or checks, and 0 is not known."""

Reached = Callable[[LevelResult], None]
"""Called with each level as soon as it is judged."""


@dataclass
class Watch:
    """A clock that is read at each level. ``reached`` is told each level that ran."""

    reached: Reached | None = None
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def told(self, level: LevelResult) -> LevelResult:
        """The level with the seconds since the one before it."""
        if level.status is Status.NOT_RUN:
            return level
        before, self.last = self.last, time.monotonic()
        timed = replace(level, seconds=self.last - before)
        if self.reached is not None:
            self.reached(timed)
        return timed

    @property
    def seconds(self) -> float:
        """Seconds since the judgement began."""
        return time.monotonic() - self.started
