"""Three pictures of the error on a logarithmic scale: by layer, by position and by prompt, with the budget drawn in."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from cli.reports.axes import Axis, axis_of, curve, is_number, line, picture, point, power, value_words, words
from cli.reports.facts import Facts, clean, number

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 508, 26, 212  # of the area with the readings, in pixels
NAMES, ROW = 222, 22  # pixels for names of prompts, and of a row
LAYER = re.compile(r"layer (\d+)")
LONGEST = 32  # characters of a prompt's name


def by_layer(stages: Sequence[Facts], budget: float | None, first: str) -> str:
    """The error after each part of the forward pass.

    Args:
        stages: name and rms of each, in order; None is an rms that is not finite.
        budget: what is allowed.
        first: the first divergence, as the verdict tells it; empty for none.
    """
    axis = axis_of([*(stage.get("rms") for stage in stages), budget], BOTTOM, TOP)
    told = f"Error after each of {len(stages)} parts of the forward pass, on a logarithmic scale"
    return picture(WIDTH, HEIGHT, told, _layers(stages, budget, first, axis))


def by_position(prompts: Sequence[Facts], budget: float | None) -> str:
    """The error from the first to the last position, a line each prompt; the worst is drawn thick."""
    lines = [(str(prompt.get("name")), list(positions_of(prompt))) for prompt in prompts]
    axis = axis_of([*(value for _, values in lines for value in values), budget], BOTTOM, TOP)
    told = f"Error by position in {len(lines)} prompts, on a logarithmic scale"
    return picture(WIDTH, HEIGHT, told, _positions(lines, budget, axis))


def by_prompt(prompts: Sequence[Facts], budget: float | None) -> str:
    """The error in each prompt and each table of embeddings, a row each."""
    axis = axis_of([*(prompt.get("rms") for prompt in prompts), budget], NAMES, RIGHT - 8)
    told = f"Error in each of {len(prompts)} prompts and tables, on a logarithmic scale"
    return picture(WIDTH, TOP + ROW * len(prompts) + 34, told, _prompts(prompts, budget, axis))


def positions_of(prompt: Facts) -> Sequence[Any]:
    """The rms by position, as fine as a verdict has it."""
    found: Sequence[Any] = prompt.get("positions") or prompt.get("quartiles") or ()
    return found


def _layers(stages: Sequence[Facts], budget: float | None, first: str, axis: Axis) -> Iterator[str]:
    yield from _upright(axis, "layers, in the order of the forward pass")
    xs = _places(len(stages))
    yield from _layer_names(stages, xs)
    yield from _allowed(axis, budget)
    yield curve(((x, axis.at(stage.get("rms"))) for x, stage in zip(xs, stages, strict=True)), "path")
    for x, stage in zip(xs, stages, strict=True):
        rms, name = stage.get("rms"), str(stage.get("name"))
        if first and first.startswith(f"{name}:"):
            yield from _first(x, name)
        told = f"{name}: rms {value_words(rms)} of its size"
        yield point(x, axis.at(rms), told, over=_is_over(rms, budget), size=3.5 if len(stages) < 60 else 2)


def _first(x: float, name: str) -> Iterator[str]:
    yield line(x, TOP, x, BOTTOM, "first")
    side = "end" if x > (LEFT + RIGHT) / 2 else "start"
    yield words(x + (-6 if side == "end" else 6), TOP + 12, f"first: {name}", "strong", side)


def _layer_names(stages: Sequence[Facts], xs: Sequence[float]) -> Iterator[str]:
    """The number of a layer where it begins, as many as there is room for."""
    begins: dict[str, float] = {}
    for x, stage in zip(xs, stages, strict=True):
        if found := LAYER.match(str(stage.get("name"))):
            begins.setdefault(found[1], x)
    every = max(1, -(-len(begins) // 12))
    for k, (name, x) in enumerate(begins.items()):
        if k % every == 0:
            yield line(x, BOTTOM, x, BOTTOM + 4, "rule")
            yield words(x, BOTTOM + 16, name, "small", "middle")


def _positions(lines: Sequence[tuple[str, Sequence[Any]]], budget: float | None, axis: Axis) -> Iterator[str]:
    yield from _upright(axis, "positions, from the first to the last")
    yield from _allowed(axis, budget)
    ranked = sorted(lines, key=lambda pair: max(map(_height, pair[1]), default=0.0))
    for _, values in ranked[:-1]:
        yield curve(zip(_places(len(values)), map(axis.at, values), strict=True), "thin")
    if ranked:
        yield from _worst(*ranked[-1], budget, axis)


def _worst(name: str, values: Sequence[Any], budget: float | None, axis: Axis) -> Iterator[str]:
    xs = _places(len(values))
    yield curve(zip(xs, map(axis.at, values), strict=True), "path")
    for k, (x, value) in enumerate(zip(xs, values, strict=True)):
        told = f"{name}, part {k + 1} of {len(values)}: rms {value_words(value)}"
        yield point(x, axis.at(value), told, over=_is_over(value, budget), size=3)
    yield words(RIGHT, TOP - 10, f"thick: {_short(name)}, the worst", "small", "end")


def _prompts(prompts: Sequence[Facts], budget: float | None, axis: Axis) -> Iterator[str]:
    bottom = TOP + ROW * len(prompts)
    for tick in axis.ticks:
        x = axis.at(10.0**tick)
        yield line(x, TOP, x, bottom, "grid")
        yield words(x, bottom + 16, power(tick), "small", "middle")
    if is_number(budget):
        yield line(axis.at(budget), TOP - 8, axis.at(budget), bottom, "budget")
        side = "end" if axis.at(budget) > (NAMES + RIGHT) / 2 else "start"
        yield words(
            axis.at(budget) + (-5 if side == "end" else 5), TOP - 10, f"allowed: {number(budget)}", "small", side
        )
    for k, prompt in enumerate(prompts):
        y, name, rms = TOP + ROW * (k + 0.5), str(prompt.get("name")), prompt.get("rms")
        yield words(NAMES - 10, y + 4, _short(name), "name", "end")
        yield line(NAMES, y, axis.at(rms), y, "bar")
        yield point(axis.at(rms), y, f"{name}: rms {value_words(rms)}", over=_is_over(rms, budget))


def _upright(axis: Axis, along: str) -> Iterator[str]:
    """A frame whose upright axis is the error."""
    for tick in axis.ticks:
        y = axis.at(10.0**tick)
        yield line(LEFT, y, RIGHT, y, "grid")
        yield words(LEFT - 6, y + 4, power(tick), "small", "end")
    yield line(LEFT, BOTTOM, RIGHT, BOTTOM, "rule")
    yield words((LEFT + RIGHT) / 2, BOTTOM + 33, along, "small", "middle")


def _allowed(axis: Axis, budget: float | None) -> Iterator[str]:
    if is_number(budget):
        y = axis.at(budget)
        yield line(LEFT, y, RIGHT, y, "budget")
        yield words(LEFT, TOP - 10, f"dashed: allowed, {number(budget)}", "small")


def _places(count: int) -> list[float]:
    """Pixels of so many readings, evenly from left to right."""
    step = (RIGHT - LEFT - 16) / max(1, count - 1)
    return [LEFT + 8 + step * k for k in range(count)] if count > 1 else [(LEFT + RIGHT) / 2]


def _height(value: Any) -> float:
    return float(value) if is_number(value) else float("inf")


def _is_over(value: Any, budget: float | None) -> bool:
    return not is_number(value) or (is_number(budget) and value > budget)


def _short(name: str) -> str:
    shown = clean(name)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
