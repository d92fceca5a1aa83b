"""The orders that rows of a part may be in after a mistake, by what the part is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from golden.weights.census import Census
from golden.weights.orders import HEADED, TURNED, Order, halves_exchanged, head_orders, reverse, rolled, rotary_orders
from golden.weights.sides import Sides, split_role


def likely_orders(sides: Sides, census: Census, role: str) -> Iterator[Order]:
    """Rotary orders, orders of heads, a reversal, a roll."""
    name, (rows, columns) = split_role(role)[1], census.shapes[role]
    head = sides.head_dim
    if name in TURNED and head:
        for turned in sorted({head, rotary_size(sides)}, reverse=True):
            yield from rotary_orders(rows, head, turned)
        other = rows // sides.n_head if not rows % sides.n_head else 0
        if other not in (0, head):  # k permuted with the number of query heads
            for order in rotary_orders(rows, other, other):
                yield Order(f"{order.said}, by {sides.n_head} heads of {other} rows", order.undo, order.index)
    router = role.removesuffix(name) + "router"
    if name == "experts_fc1" and router in census.shapes and not rows % (2 * census.shapes[router][0]):
        yield halves_exchanged(rows, census.shapes[router][0])
    if name == "q":
        yield from head_orders(sides.n_head, sides.n_head_kv, head)
    if columns > 1 or name in HEADED:
        yield reverse(rows)
        by = _roll(census, role)
        if by and not (name in HEADED and head and by % head == 0):  # then heads are exchanged
            yield rolled(rows, by)


def rotary_size(sides: Sides) -> int:
    """Rows of each head that rotary embeddings turn, by the config; all of them where it does not say."""
    for place in (sides.config, *_mixers(sides)):
        for name, unit in (("rotary_dim", 1), ("partial_rotary_factor", sides.head_dim)):
            value: Any = place.get(name)
            if type(value) in (int, float) and 0 < value * unit <= sides.head_dim:
                return int(value * unit)
    return sides.head_dim


def _mixers(sides: Sides) -> Iterator[Mapping[str, Any]]:
    architecture = sides.config.get("architecture")
    for block in architecture if isinstance(architecture, list) else [architecture]:
        mixer = block.get("mixer") if isinstance(block, dict) else None
        if isinstance(mixer, dict):
            yield mixer
    rope = sides.config.get("rope_parameters")
    if isinstance(rope, dict):
        yield rope


def _roll(census: Census, role: str) -> int:
    """By how many rows the content may be rolled: where the first row that is there once lies."""
    expected, found = census.expected[role].rows, census.found[role].rows
    for row in range(min(len(expected), 4)):
        places = (found == expected[row]).nonzero()[0]
        if len(places) == 1:
            return int((places[0] - row) % len(expected))
    return 0
