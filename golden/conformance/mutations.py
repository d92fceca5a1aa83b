"""Wrong tables made from a right one: each keeps every shape, so it round-trips perfectly and only its function tells.

Made from the rules alone, so that a new family gets its own: parts of one tensor exchanged, two tensors of one shape
exchanged, the rows of a tensor shuffled.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from converters.algebra.moves import Rows
from converters.algebra.views import Then
from converters.family import Family, Rule
from converters.plan.rules import theirs_shapes

Rules = Sequence[Rule]
Shapes = Mapping[str, tuple[int, ...]]
# Both biases of a parallel block are added to the same sum: to exchange them is no fault.
ONE_SUM = tuple({f"layers.{{b}}.{name}.bias" for name in ("mixer.out_proj", mlp)} for mlp in ("mlp.fc2", "mlp.mlp.fc2"))


def mutations(family: Family, resolved: Mapping[str, Any]) -> dict[str, Family]:
    """Name -> the family with one fault in its rules, for the model of a resolved config of ours."""
    rules = list(family.rules(resolved))
    shapes = _shapes(family, rules, resolved)
    found = {**dict(_parts(family, rules, resolved)), **dict(_tensors(rules, shapes)), **dict(_rows(rules, shapes))}
    return {name: replace(family, rules=_always(wrong)) for name, wrong in found.items()}


def _always(rules: Rules) -> Callable[[Mapping[str, Any]], Rules]:
    return lambda resolved: rules


def _shapes(family: Family, rules: Rules, resolved: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of ours that a rule names, by its template, in the first layer."""
    tensors, n_layer = family.tensors(resolved), family.dims(resolved)["n_layer"]
    return {
        template: tuple(tensors[key])
        for rule in rules
        for template, key in zip(rule.ours, rule.bound(n_layer)[0].ours, strict=True)
    }


def _parts(family: Family, rules: Rules, resolved: Mapping[str, Any]) -> Iterator[tuple[str, Rules]]:
    """Two sources of one rule exchanged, where they have one shape."""
    dims, ours = family.dims(resolved), family.tensors(resolved)
    for k, rule in enumerate(rules):
        shapes = theirs_shapes([rule.bound(dims["n_layer"])[0]], dims, ours)
        sizes = list(shapes.values())
        for a, b in combinations(range(len(rule.theirs)), 2):
            if len(sizes) == len(rule.theirs) and sizes[a] == sizes[b] and len(rule.ours) == 1:
                theirs = list(rule.theirs)
                theirs[a], theirs[b] = theirs[b], theirs[a]
                yield f"{rule.theirs[a]} for {rule.theirs[b]}", _with(rules, k, replace(rule, theirs=tuple(theirs)))


def _tensors(rules: Rules, shapes: Shapes) -> Iterator[tuple[str, Rules]]:
    """The targets of two rules exchanged, where they have one shape and both have layers or neither has."""
    single = [(k, rule) for k, rule in enumerate(rules) if len(rule.ours) == 1]
    for (a, one), (b, other) in combinations(single, 2):
        alike = shapes[one.ours[0]] == shapes[other.ours[0]]
        if alike and {*one.ours, *other.ours} not in ONE_SUM and ("{b}" in one.ours[0]) == ("{b}" in other.ours[0]):
            wrong = _with(_with(rules, a, replace(one, ours=other.ours)), b, replace(other, ours=one.ours))
            yield f"{one.ours[0]} for {other.ours[0]}", wrong


def _rows(rules: Rules, shapes: Shapes) -> Iterator[tuple[str, Rules]]:
    """The two halves of a tensor's rows interleaved; of an odd number, in the smallest grid there is."""
    for k, rule in enumerate(rules):
        if len(rule.ours) != 1 or not shapes[rule.ours[0]]:
            continue
        rows = shapes[rule.ours[0]][0]
        factor = next((n for n in range(2, rows) if rows % n == 0), None)
        if factor:
            move = Then((rule.move, Rows((factor, rows // factor), (1, 0))))
            yield f"rows of {rule.ours[0]} shuffled", _with(rules, k, replace(rule, move=move))


def _with(rules: Rules, k: int, rule: Rule) -> Rules:
    return [*rules[:k], rule, *rules[k + 1 :]]
