"""The logarithmic axis of a chart, and the shapes that are drawn along it: pieces of an inline SVG."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from cli.reports.facts import clean

MOST_TICKS = 6


@dataclass(frozen=True)
class Axis:
    """Powers of ten from `low` to `high` between two pixels. Zeros are drawn at the low end, infinities at the high."""

    low: int
    high: int
    start: float
    stop: float

    def at(self, value: float | None) -> float:
        """The pixel of a value; None is one that is not finite."""
        if value is None or value == math.inf:
            return self.stop
        power = math.log10(value) if value > 0 else self.low
        share = (min(max(power, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)

    @property
    def ticks(self) -> list[int]:
        """The powers that are written beside the axis."""
        step = max(1, math.ceil((self.high - self.low) / MOST_TICKS))
        return list(range(self.low, self.high + 1, step))


def axis_of(values: Iterable[Any], start: float, stop: float) -> Axis:
    """An axis that holds all values that have a logarithm."""
    powers = [math.log10(value) for value in values if is_number(value) and value > 0]
    low = math.floor(min(powers, default=-16) - 0.1)
    return Axis(low, max(math.ceil(max(powers, default=0) + 0.1), low + 2), start, stop)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def power(exponent: int) -> str:
    """A power of ten as a label."""
    return f"1e{exponent}"


def words(x: float, y: float, text: object, kind: str = "", anchor: str = "start") -> str:
    """Text in the picture."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(clean(text))}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def point(x: float, y: float, told: str, *, over: bool, size: float = 3.5) -> str:
    """A reading: a ring where it is allowed, a filled diamond where it is too much, so that no colour is needed."""
    title = f"<title>{escape(clean(told))}</title>"
    if not over:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" class="within">{title}</circle>'
    r = size + 1.5
    corners = f"{x:.1f},{y - r:.1f} {x + r:.1f},{y:.1f} {x:.1f},{y + r:.1f} {x - r:.1f},{y:.1f}"
    return f'<polygon points="{corners}" class="over">{title}</polygon>'


def curve(points: Iterable[tuple[float, float]], kind: str) -> str:
    """Straight lines from point to point."""
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="{kind}"/>'


def value_words(value: Any) -> str:
    """A reading in words."""
    return f"{value:.3g}" if is_number(value) else "not finite"


def picture(width: int, height: int, told: str, parts: Iterator[str]) -> str:
    """The SVG, which a reader that cannot see is told in a sentence."""
    body = "\n".join(parts)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(clean(told))}">\n{body}\n</svg>'
