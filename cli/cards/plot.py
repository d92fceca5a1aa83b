"""The error by position as an SVG: one line a prompt, from the first to the last quarter of its positions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

COLOURS = ("#1b6ca8", "#c8553d", "#3c8d5a", "#8a5fb0", "#b58a1b", "#4d5b6b")
LEFT, TOP, WIDTH, HEIGHT = 70, 30, 420, 260  # of the area with the lines, in pixels
LEGEND = 190  # pixels to the right of it
QUARTERS = ("first quarter", "second", "third", "last")
Lines = Mapping[str, Sequence[float]]


def lines_of(levels: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Name of each prompt of L2 that was read in four quarters, and the rms of each; a zero has no logarithm."""
    prompts = [prompt for level in levels if level.get("name") == "L2" for prompt in level.get("prompts") or ()]
    read = {str(prompt.get("name")): prompt.get("quartiles") or () for prompt in prompts}
    whole = {name: values for name, values in read.items() if len(values) == len(QUARTERS)}
    return {name: list(values) for name, values in whole.items() if all(_is_drawn(value) for value in values)}


def _is_drawn(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def plot(lines: Lines, budget: float | None) -> str:
    """The picture. Values are rms errors of logits, in standard deviations of the reference's, by powers of ten.

    budget: what L2 allows, a dashed line.
    """
    values = [value for line in lines.values() for value in line] + ([budget] if budget else [])
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    parts = [*_axes(low, high), *_budget(budget, low, high)]
    for k, (name, line) in enumerate(lines.items()):
        parts += _line(k, name, line, low, high)
    size = f'width="{LEFT + WIDTH + LEGEND}" height="{TOP + HEIGHT + 50}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *parts, "</svg>", ""])


def _x(quarter: int) -> float:
    return LEFT + WIDTH * (quarter + 0.5) / len(QUARTERS)


def _y(value: float, low: int, high: int) -> float:
    return TOP + HEIGHT * (high - math.log10(value)) / (high - low)


def _axes(low: int, high: int) -> Iterator[str]:
    yield _text(LEFT, TOP - 12, "rms error of the logits (L2, float64), in standard deviations of the reference's")
    yield f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888888"/>'
    for power in range(low, high + 1, max(1, (high - low) // 6)):
        y = TOP + HEIGHT * (high - power) / (high - low)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + WIDTH}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield _text(LEFT - 8, y + 4, f"1e{power}", "end")
    for k, name in enumerate(QUARTERS):
        yield _text(_x(k), TOP + HEIGHT + 18, name, "middle")
    yield _text(LEFT + WIDTH / 2, TOP + HEIGHT + 38, "positions", "middle")


def _budget(budget: float | None, low: int, high: int) -> Iterator[str]:
    if budget:
        y = f"{_y(budget, low, high):.1f}"
        yield f'<line x1="{LEFT}" y1="{y}" x2="{LEFT + WIDTH}" y2="{y}" stroke="#222222" stroke-dasharray="6 4"/>'
        yield _text(LEFT + WIDTH + 8, float(y) + 4, f"budget {budget:.3g}")


def _line(k: int, name: str, line: Sequence[float], low: int, high: int) -> Iterator[str]:
    colour, y = COLOURS[k % len(COLOURS)], TOP + HEIGHT - 12 - 18 * k
    points = " ".join(f"{_x(i):.1f},{_y(value, low, high):.1f}" for i, value in enumerate(line))
    yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
    yield f'<rect x="{LEFT + WIDTH + 8}" y="{y - 9}" width="10" height="10" fill="{colour}"/>'
    yield _text(LEFT + WIDTH + 24, y, name)


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
