"""Wrong rule tables, made from a right one, to test the tests.

Each wrong table keeps every shape, so its round trip is bitwise equal. Only the function of the model shows the fault.
They are made from the rules alone, so a new family gets its own: two parts of one tensor exchanged, two tensors of one
shape exchanged, the rows of a tensor shuffled.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from converters.algebra.moves import Rows
from converters.algebra.views import Then
from converters.config import layout
from converters.family import Family, Rule
from converters.plan.rules import theirs_shapes

Rules = Sequence[Rule]
# A parallel block adds both biases to the same sum, so exchanging them changes nothing.
ONE_SUM = tuple({f"layers.{{b}}.{name}.bias" for name in ("mixer.out_proj", mlp)} for mlp in ("mlp.fc2", "mlp.mlp.fc2"))


def mutations(family: Family, resolved: Mapping[str, Any]) -> dict[str, Family]:
    """Name -> the family with one fault in its rules, for the MixFormer of a resolved config."""
    rules = list(family.rules(resolved))
    found = {**dict(_parts(family, rules, resolved)), **dict(_tensors(rules, resolved)), **dict(_rows(rules, resolved))}
    return {name: replace(family, rules=_always(wrong)) for name, wrong in found.items()}


def _always(rules: Rules) -> Callable[[Mapping[str, Any]], Rules]:
    return lambda resolved: rules


def _shape(template: str, resolved: Mapping[str, Any]) -> tuple[int, ...]:
    key = Rule((), (template,)).bound(int(resolved["n_layer"]))[0].ours[0]
    return tuple(layout.tensors(resolved)[key])


def _parts(family: Family, rules: Rules, resolved: Mapping[str, Any]) -> Iterator[tuple[str, Rules]]:
    """Two sources of one rule exchanged, where they have one shape."""
    dims, ours = family.dims(resolved), layout.tensors(resolved)
    for k, rule in enumerate(rules):
        shapes = theirs_shapes([rule.bound(int(resolved["n_layer"]))[0]], dims, ours)
        sizes = list(shapes.values())
        for a, b in combinations(range(len(rule.theirs)), 2):
            if len(sizes) == len(rule.theirs) and sizes[a] == sizes[b] and len(rule.ours) == 1:
                theirs = list(rule.theirs)
                theirs[a], theirs[b] = theirs[b], theirs[a]
                yield f"{rule.theirs[a]} for {rule.theirs[b]}", _with(rules, k, replace(rule, theirs=tuple(theirs)))


def _tensors(rules: Rules, resolved: Mapping[str, Any]) -> Iterator[tuple[str, Rules]]:
    """The targets of two rules exchanged, where their shapes are equal and both belong to layers or both do not."""
    single = [(k, rule) for k, rule in enumerate(rules) if len(rule.ours) == 1]
    for (a, one), (b, other) in combinations(single, 2):
        alike = _shape(one.ours[0], resolved) == _shape(other.ours[0], resolved)
        if alike and {*one.ours, *other.ours} not in ONE_SUM and ("{b}" in one.ours[0]) == ("{b}" in other.ours[0]):
            wrong = _with(_with(rules, a, replace(one, ours=other.ours)), b, replace(other, ours=one.ours))
            yield f"{one.ours[0]} for {other.ours[0]}", wrong


def _rows(rules: Rules, resolved: Mapping[str, Any]) -> Iterator[tuple[str, Rules]]:
    """The rows of a tensor shuffled: read as a grid of (smallest factor, rest), then transposed."""
    for k, rule in enumerate(rules):
        if len(rule.ours) != 1:
            continue
        rows = _shape(rule.ours[0], resolved)[0]
        factor = next((n for n in range(2, rows) if rows % n == 0), None)
        if factor:
            move = Then((rule.move, Rows((factor, rows // factor), (1, 0))))
            yield f"rows of {rule.ours[0]} shuffled", _with(rules, k, replace(rule, move=move))


def _with(rules: Rules, k: int, rule: Rule) -> Rules:
    return [*rules[:k], rule, *rules[k + 1 :]]
