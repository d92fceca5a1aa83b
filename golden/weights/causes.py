"""All statements about a candidate's weights, in the order of the forward pass, and what no statement explains."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from golden.weights.census import take_census
from golden.weights.facts import REFERENCE, Edit, Fact, called, in_layers, numbered
from golden.weights.moved import copies, move_facts, whole_moves
from golden.weights.places import place_of, rank
from golden.weights.rows import copied_rows, head_facts, open_rows, row_facts
from golden.weights.sides import Sides, split_role
from golden.weights.values import Leftover, change_facts, value_changes


@dataclass(frozen=True)
class Cause:
    """A statement that the files prove, with what undoes it.

    ``claim`` names layers, parts and rows. ``place`` is the stage that it shows in first. ``undo`` is empty where
    nothing can be run without what is missing. ``edits`` and ``computed`` as in `golden.weights.facts.Fact`.
    """

    claim: str
    place: str
    undo: str
    edits: tuple[Edit, ...] = ()
    computed: tuple[Edit, ...] = ()


@dataclass(frozen=True)
class WeightReport:
    """What the files say: causes in order of place, and a sentence for each part that no hypothesis explains.

    ``unexplained`` pairs a stage with the sentence.
    """

    causes: tuple[Cause, ...] = ()
    unexplained: tuple[tuple[str, str], ...] = ()

    @property
    def place(self) -> str | None:
        """The first stage whose weights are not what they should be."""
        places = [*(cause.place for cause in self.causes), *(place for place, _ in self.unexplained)]
        return min(places, key=rank, default=None)


def report_weights(sides: Sides) -> WeightReport:
    """Hold both sides against each other; reads each file about twice."""
    lacking = list(_lacking(sides))
    if sum(lack.why not in ("missing", "extra") for lack in sides.lacks) > sides.n_layer:
        return WeightReport(tuple(sorted(lacking, key=lambda cause: rank(cause.place))))  # of another size
    census = take_census(sides)
    lies = whole_moves(sides, census)
    facts = list(move_facts(sides, census, lies))
    open_roles = [role for role in census.differing if role not in lies]
    facts += copies(sides, census, open_roles)
    todo = open_rows(census, open_roles)
    facts += head_facts(sides, census, todo)
    facts += row_facts(sides, census, todo)
    facts += copied_rows(sides, census, todo)
    changes, rest = value_changes(sides, todo)
    facts += change_facts(sides, changes)
    facts += _narrowed(sides)
    causes = [_cause(sides, fact) for fact in _merged(facts)] + lacking
    return WeightReport(
        tuple(sorted(causes, key=lambda cause: rank(cause.place))),
        tuple(sorted((_unexplained(left) for left in rest), key=lambda pair: rank(pair[0]))),
    )


def _merged(facts: Iterable[Fact]) -> Iterator[Fact]:
    """Facts that say the same of several layers as one."""
    groups = defaultdict[tuple[str, str, bool], list[Fact]](list)
    for number, fact in enumerate(facts):
        groups[fact.claim, fact.undo if fact.layers else str(number), bool(fact.computed)].append(fact)
    for found in groups.values():
        first = found[0]
        layers = tuple(sorted({layer for fact in found for layer in fact.layers}))
        roles, edits, computed = (
            tuple(item for fact in found for item in getattr(fact, name)) for name in ("roles", "edits", "computed")
        )
        yield replace(first, roles=roles, edits=edits, computed=computed, layers=layers)


def _cause(sides: Sides, fact: Fact) -> Cause:
    place = min((place_of(role) for role in fact.roles), key=rank)
    claim = re.sub(r",( in all layers)?$", r"\1", in_layers(fact.layers, sides.n_layer, fact.claim))
    return Cause(claim, place, fact.undo, fact.edits, fact.computed)


def _unexplained(left: Leftover) -> tuple[str, str]:
    layer, name = split_role(left.role)
    values = "1 value" if left.count == 1 else f"{left.count} values"
    rows = "1 row" if left.rows == 1 else f"{left.rows} rows"
    claim = f"{values} in {rows} of {name} {'differs' if left.count == 1 else 'differ'}; no hypothesis explains it"
    return place_of(left.role), claim if layer is None else f"layer {layer}: {claim}"


def _narrowed(sides: Sides) -> Iterator[Fact]:
    """Tensors that are stored in a narrower dtype than the mapping gives."""
    by_dtype = defaultdict[str, list[str]](list)
    for role, part in sides.parts.items():
        if part.key in sides.narrowed:
            by_dtype[sides.narrowed[part.key]].append(role)
    for dtype, roles in by_dtype.items():
        every = len(roles) == len(sides.parts)
        subject = "all weights are" if every else f"{called(roles)} {'are' if len(roles) > 1 else 'is'}"
        claim = f"{subject} stored as {dtype}, which rounds them"
        edits = tuple(Edit(sides.parts[role], partial(sides.truth.part, sides.parts[role])) for role in roles)
        yield Fact(claim, REFERENCE, tuple(roles), edits)


def _lacking(sides: Sides) -> Iterator[Cause]:
    """What is missing, too much, or of another shape: by layers where whole layers are, else by key."""
    if sides.held_layers and sides.held_layers != sides.n_layer:
        yield _other_depth(sides.held_layers, sides.n_layer)
        return
    for why in ("missing", "extra"):
        lacks = [lack for lack in sides.lacks if lack.why == why]
        layers = {layer for lack in lacks if (layer := _layer_of(lack.key)) is not None}
        there = {layer for key in sides.found.tensors if (layer := _layer_of(key)) is not None}
        whole = sorted(layers - there)
        if whole:
            said = f"layer{'s' if len(whole) > 1 else ''} {numbered(_said_numbers(sides, whole))}"
            verb = "are" if len(whole) > 1 else "is"
            yield Cause(f"{said} {verb} {_words(why)}", f"layer {_said_numbers(sides, whole)[0]}", "")
        rest = [lack.key for lack in lacks if _layer_of(lack.key) not in whole]
        for key in rest[:8]:
            yield Cause(f"{key} is {_words(why)}", _place_of_key(sides, key), "")
        if len(rest) > 8:
            yield Cause(f"{len(rest) - 8} more tensors are {_words(why)}", "logits", "")
    odd = [lack for lack in sides.lacks if lack.why not in ("missing", "extra")]
    for lack in odd[:8]:
        yield Cause(f"{lack.key} {lack.why}", _place_of_key(sides, lack.key), "")
    if len(odd) > 8:
        yield Cause(f"{len(odd) - 8} more tensors have other shapes", "logits", "")


def _other_depth(found: int, expected: int) -> Cause:
    gone = list(range(min(found, expected), max(found, expected)))
    said = f"layer{'s' if len(gone) > 1 else ''} {numbered(gone)} {'are' if len(gone) > 1 else 'is'}"
    why = "missing" if found < expected else "extra"
    return Cause(
        f"the candidate has {found} layers, the reference {expected}: {said} {_words(why)}", f"layer {gone[0]}", ""
    )


def _words(why: str) -> str:
    return {"missing": "missing", "extra": "not expected"}[why]


def _layer_of(key: str) -> int | None:
    found = re.search(r"\.(\d+)\.", f".{key}")
    return int(found[1]) if found else None


def _first(sides: Sides) -> int:
    """What the keys call the first layer: MixFormer's blocks are numbered from 1."""
    return 1 if "architecture" in sides.config else 0


def _said_numbers(sides: Sides, layers: list[int]) -> list[int]:
    return [layer - _first(sides) for layer in layers]


def _place_of_key(sides: Sides, key: str) -> str:
    roles = [role for role, part in sides.all_parts.items() if part.key == key]
    if roles:
        return min((place_of(role) for role in roles), key=rank)
    layer = _layer_of(key)
    return "logits" if layer is None else f"layer {max(0, layer - _first(sides))}"
