"""Heads and rows whose right content lies elsewhere, of parts that are not elsewhere as a whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from golden.weights.census import Census, mixed
from golden.weights.facts import REFERENCE, Edit, Fact, from_reference, listed, numbered
from golden.weights.likely_orders import rotary_size
from golden.weights.orders import HEADED, TURNED, Index, Order, as_it_is, rotary_orders
from golden.weights.sides import Numbers, Sides, split_role

NARROW = 4
"""Columns below which rows are too short to be recognised elsewhere."""


@dataclass
class Open:
    """Rows of a part that nothing explains yet."""

    role: str
    rows: np.ndarray[Any, np.dtype[np.bool_]]

    @property
    def numbers(self) -> Index:
        """Their numbers."""
        return np.asarray(self.rows.nonzero()[0], dtype=np.int64)


@dataclass(frozen=True)
class _Block:
    """A head that should lie in ``role`` at ``head``, and lies in ``at`` as its ``there``-th, in ``order``."""

    role: str
    head: int
    at: str
    there: int
    order: Order


def open_rows(census: Census, roles: Sequence[str]) -> list[Open]:
    """The differing rows of some parts."""
    return [Open(role, census.changed(role)) for role in roles]


def moved_edit(sides: Sides, role: str, rows: Index, at: str, there: Index) -> Edit:
    """Rows of a part, taken from rows of another one."""

    def values() -> Numbers:
        found: Numbers = sides.found.part(sides.parts[at])[there]
        return found

    return Edit(sides.parts[role], values, rows)


def head_facts(sides: Sides, census: Census, todo: list[Open]) -> Iterator[Fact]:
    """Heads that are exchanged, or whose rows are in another order."""
    size = sides.head_dim
    headed = [part for part in todo if size and split_role(part.role)[1] in HEADED and not len(part.rows) % size]
    table = defaultdict[int, list[_Block]](list)
    for part in headed:
        for head in np.unique(part.numbers // size):
            for order in _head_orders(sides, part.role, size):
                prints = census.found[part.role].rows[head * size : (head + 1) * size]
                table[mixed(prints[order.back])].append(_Block("", 0, part.role, int(head), order))
    blocks = list[_Block]()
    for part in headed:
        for head in np.unique(part.numbers // size):
            wanted = mixed(census.expected[part.role].rows[head * size : (head + 1) * size])
            fitting = [b for b in table.get(wanted, []) if census.shapes[b.at][1] == census.shapes[part.role][1]]
            if fitting:
                best = min(fitting, key=lambda b: (b.at != part.role, b.there != head, b.order.said != ""))
                blocks.append(_Block(part.role, int(head), best.at, best.there, best.order))
                part.rows[head * size : (head + 1) * size] = False
    yield from _heads_said(sides, blocks, size)


def _head_orders(sides: Sides, role: str, size: int) -> Iterator[Order]:
    yield as_it_is(size)
    if split_role(role)[1] in TURNED:
        for turned in sorted({size, rotary_size(sides)}, reverse=True):
            yield from rotary_orders(size, size, turned)


def _heads_said(sides: Sides, blocks: list[_Block], size: int) -> Iterator[Fact]:
    groups = defaultdict[tuple[str, ...], list[_Block]](list)
    for block in blocks:
        if (block.at, block.there) == (block.role, block.head):
            groups["order", block.role, block.order.said].append(block)
        else:
            groups["place", *sorted((block.role, block.at))].append(block)
    for key, found in groups.items():
        roles = tuple(dict.fromkeys(block.role for block in found))
        edits = tuple(_block_edit(sides, block, size) for block in found)
        layers = tuple(sorted({layer for role in roles if (layer := split_role(role)[0]) is not None}))
        layers = layers if len(layers) == 1 else ()
        heads = f"head{'s' if len(found) > 1 else ''} {numbered({b.head for b in found})}"
        name = split_role(key[1])[1] if layers else key[1]
        if key[0] == "order":
            claim = f"{heads} of {name} {'are' if len(found) > 1 else 'is'} {key[2]}"
            yield Fact(claim, found[0].order.undo, roles, edits, layers=layers)
        else:
            yield Fact(
                _exchanged(found), "the swap" if _is_swap(found) else "the right order", roles, edits, (), layers
            )


def _is_swap(blocks: list[_Block]) -> bool:
    places = {(b.role, b.head): (b.at, b.there) for b in blocks}
    return all(places.get(source) == target for target, source in places.items())


def _exchanged(blocks: list[_Block]) -> str:
    roles = list(dict.fromkeys(role for block in blocks for role in (block.role, block.at)))
    layers = {split_role(role)[0] for role in roles}
    parts = []
    for role in roles:
        heads = {b.head for b in blocks if b.role == role} | {b.there for b in blocks if b.at == role}
        layer, name = split_role(role)
        said = name if len(layers) == 1 else f"{name} of layer {layer}"
        parts.append(f"head{'s' if len(heads) > 1 else ''} {numbered(heads)} of {said}")
    return f"{listed(parts)} are {'exchanged' if _is_swap(blocks) else 'in each other’s places'}"


def _block_edit(sides: Sides, block: _Block, size: int) -> Edit:
    rows = np.arange(block.head * size, (block.head + 1) * size)
    return moved_edit(sides, block.role, rows, block.at, block.there * size + block.order.back)


def row_facts(sides: Sides, census: Census, todo: list[Open]) -> Iterator[Fact]:
    """Rows whose right content lies in other rows, of the same part or of another one."""
    wide = [part for part in todo if census.shapes[part.role][1] >= NARROW and part.rows.any()]
    table = dict[tuple[int, int], tuple[str, int]]()
    for part in wide:
        width = census.shapes[part.role][1]
        for row in part.numbers:
            table.setdefault((int(census.found[part.role].rows[row]), width), (part.role, int(row)))
    for part in wide:
        pairs = [(int(row), _source(census, table, part.role, int(row))) for row in part.numbers]
        sources = defaultdict[str, list[tuple[int, int]]](list)
        for row, source in pairs:
            if source is not None:
                sources[source[0]].append((row, source[1]))
        for at, found in sources.items():
            rows, there = (np.array(column, dtype=np.int64) for column in zip(*found, strict=True))
            part.rows[rows] = False
            yield _row_fact(sides, part.role, rows, at, there)


def _source(
    census: Census, table: dict[tuple[int, int], tuple[str, int]], role: str, row: int
) -> tuple[str, int] | None:
    return table.get((int(census.expected[role].rows[row]), census.shapes[role][1]))


def _row_fact(sides: Sides, role: str, rows: Index, at: str, there: Index) -> Fact:
    layer, name = split_role(role)
    edits, layers = (moved_edit(sides, role, rows, at, there),), (() if layer is None else (layer,))
    kind = "columns" if sides.parts[role].turned else "rows"
    if at != role:
        other = split_role(at)[1] if split_role(at)[0] == layer else f"{split_role(at)[1]} of layer {split_role(at)[0]}"
        claim = f"{kind} {numbered(map(int, rows))} of {name} lie in {kind} {numbered(map(int, there))} of {other}"
        return Fact(claim, "the right places", (role,), edits, (), layers)
    if sorted(rows) == sorted(there) and len(rows) == 2:
        claim, undo = f"{kind} {rows[0]} and {rows[1]} of {name} are exchanged", "the swap"
    else:
        claim, undo = (
            f"{len(rows)} {kind} of {name} are in another order ({numbered(map(int, rows))})",
            "the right order",
        )
    return Fact(claim, undo, (role,), edits, (), layers)


def copied_rows(sides: Sides, census: Census, todo: list[Open]) -> Iterator[Fact]:
    """Rows that hold what another row of the same part should hold, while their own content is lost."""
    for part in todo:
        if not part.rows.any() or census.shapes[part.role][1] < NARROW:
            continue
        expected = {int(print_): row for row, print_ in enumerate(census.expected[part.role].rows)}
        found = census.found[part.role].rows
        pairs = [(int(row), expected[int(found[row])]) for row in part.numbers if int(found[row]) in expected]
        if not pairs or _is_zero_rows(sides, part.role, [row for row, _ in pairs]):
            continue
        rows = np.array([row for row, _ in pairs], dtype=np.int64)
        part.rows[rows] = False
        layer, name = split_role(part.role)
        kind = "column" if sides.parts[part.role].turned else "row"
        if len(pairs) == 1:
            claim = f"{kind} {pairs[0][0]} of {name} is a copy of {kind} {pairs[0][1]}"
        else:
            others = numbered(sorted({other for _, other in pairs}))
            claim = f"{kind}s {numbered(map(int, rows))} of {name} are copies of {kind}s {others}"
        layers = () if layer is None else (layer,)
        yield Fact(claim, REFERENCE, (part.role,), (from_reference(sides, part.role, rows),), (), layers)


def _is_zero_rows(sides: Sides, role: str, rows: list[int]) -> bool:
    return not sides.found.part(sides.parts[role])[rows].any()
