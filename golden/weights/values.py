"""Values that lie where they should but were changed: all of a part, some of its rows, or single ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from golden.weights.facts import REFERENCE, Edit, Fact, called, from_reference, numbered
from golden.weights.relations import Relation, named_factors, relation, shaped_relation
from golden.weights.rows import Open
from golden.weights.sides import Numbers, Sides, split_role

UNSEEN = ("is rounded", "has rows that were divided")
"""Changes that leave some values as they are."""
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Change:
    """What was done to values of a part. ``rows`` are the rows that hold them, ``places`` the first few of them."""

    role: str
    relation: Relation
    rows: Mask
    count: int
    columns: int
    places: tuple[tuple[int, int], ...]

    @property
    def is_whole(self) -> bool:
        """Whether it was done to all rows, or to all that it can change."""
        share = 0.5 if self.relation.said.startswith(UNSEEN) else 1.0
        return bool(self.rows.mean() >= share) and not self.is_sparse

    @property
    def is_sparse(self) -> bool:
        """Whether it was done to single values and not to rows."""
        rounds = self.relation.said.startswith("is rounded")
        return not rounds and self.columns > 1 and self.count * 2 < int(self.rows.sum()) * self.columns


@dataclass(frozen=True)
class Leftover:
    """Values that nothing explains."""

    role: str
    rows: int
    count: int


def value_changes(sides: Sides, todo: list[Open]) -> tuple[list[Change], list[Leftover]]:
    """What was done to each part with open rows, and the parts for which no single thing was."""
    changes, rest = list[Change](), list[Leftover]()
    for part in todo:
        if part.rows.any():
            found = _change(sides, part)
            if isinstance(found, Change):
                changes.append(found)
            else:
                rest.append(found)
    return changes, rest


def _change(sides: Sides, part: Open) -> Change | Leftover:
    rows, columns = sides.shape(part.role)
    relations, places, count = list[Relation | None](), list[tuple[int, int]](), 0
    sizes = named_factors(sides.head_dim, int(sides.config.get("hidden_size") or sides.config.get("n_embd") or 0))
    for start, found, expected in sides.blocks(part.role):
        mask = part.rows[start : start + len(found)]
        if not mask.any():
            continue
        found, expected = found[mask], expected[mask]
        differs = _bits(found) != _bits(expected)
        count += int(differs.sum())
        numbers = mask.nonzero()[0] + start
        if len(places) < 4:
            places += [
                (int(numbers[i]), int(j)) for i, j in zip(*(axis[:4] for axis in differs.nonzero()), strict=True)
            ]
        one = relation(found[differs], expected[differs], sides.dtype(part.role), sizes)
        if one is None:
            one = shaped_relation(found, expected, sides.dtype(part.role), whole=len(found) == rows)
        relations.append(one)
    first = relations[0]
    if first is None or any(one is None or one.said != first.said for one in relations):
        return Leftover(part.role, int(part.rows.sum()), count)
    return Change(part.role, first, part.rows, count, columns, tuple(places))


def _bits(values: Numbers) -> Numbers:
    return np.ascontiguousarray(values).view(np.uint64 if values.itemsize == 8 else np.uint32)


def change_facts(sides: Sides, changes: list[Change]) -> Iterator[Fact]:
    """Statements about changed values; parts of one layer that share one change are named together."""
    whole = defaultdict[tuple[int | None, str], list[Change]](list)
    rounded = defaultdict[str, list[Change]](list)
    for change in changes:
        if change.relation.said.startswith("is rounded"):
            rounded[change.relation.said].append(change)
        elif change.is_whole:
            whole[split_role(change.role)[0], change.relation.said].append(change)
        else:
            yield _partial(sides, change)
    for said, found in rounded.items():
        yield from _rounded(sides, said, found)
    for (layer, _), found in whole.items():
        roles = tuple(change.role for change in found)
        claim = f"{called(roles)} {found[0].relation.predicate(len(roles) > 1)}"
        yield _fact(sides, claim, found, () if layer is None else (layer,))


def _rounded(sides: Sides, said: str, found: list[Change]) -> Iterator[Fact]:
    if 2 * len(found) > len(sides.parts):
        yield _fact(sides, f"all weights {said.replace('is ', 'are ', 1)}", found, ())
        return
    layers = defaultdict[int | None, list[Change]](list)
    for change in found:
        layers[split_role(change.role)[0]].append(change)
    for layer, those in layers.items():
        roles = [change.role for change in those]
        claim = f"{called(roles)} {those[0].relation.predicate(len(roles) > 1)}"
        yield _fact(sides, claim, those, () if layer is None else (layer,))


def _partial(sides: Sides, change: Change) -> Fact:
    layer, name = split_role(change.role)
    rows = [int(row) for row in change.rows.nonzero()[0]]
    turned = sides.parts[change.role].turned
    if change.columns == 1:
        subject, several = f"{'entries' if len(rows) > 1 else 'entry'} {numbered(rows)} of {name}", len(rows) > 1
    elif change.is_sparse:
        at = [f"row {j}, column {i}" if turned else f"row {i}, column {j}" for i, j in change.places[:1]]
        subject = f"one value of {name} ({at[0]})" if change.count == 1 else f"{change.count} values of {name}"
        several = change.count > 1
    else:
        kind = "column" if turned else "row"
        subject, several = f"{kind}{'s' if len(rows) > 1 else ''} {numbered(rows)} of {name}", len(rows) > 1
    claim = f"{subject} {change.relation.predicate(several)}"
    return _fact(sides, claim, [change], () if layer is None else (layer,))


def _fact(sides: Sides, claim: str, changes: list[Change], layers: tuple[int, ...]) -> Fact:
    """The undoing by the reference's values, and by a computation where one is known."""
    kind = changes[0].relation
    roles = tuple(change.role for change in changes)
    exact = tuple(from_reference(sides, change.role, _numbers(change)) for change in changes)
    own = tuple(_computed(sides, change) for change in changes) if kind.invert else ()
    if kind.exact:
        return Fact(claim, kind.undo, roles, own, (), layers)
    return Fact(claim, kind.undo if own else REFERENCE, roles, exact, own, layers)


def _numbers(change: Change) -> Any:
    return change.rows.nonzero()[0]


def _computed(sides: Sides, change: Change) -> Edit:
    part, rows, invert = sides.parts[change.role], _numbers(change), change.relation.invert
    assert invert is not None

    def values() -> Numbers:
        found, expected = sides.found.part(part)[rows], sides.expected.part(part)[rows]
        wide: Numbers = found.astype(np.float64)
        return np.where(_bits(found) != _bits(expected), invert(wide), wide)

    return Edit(part, values, rows)
