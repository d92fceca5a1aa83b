"""Whole parts whose right content lies elsewhere in the candidate: exchanged, re-ordered, transposed, copied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from golden.weights.census import Census, mixed
from golden.weights.facts import REFERENCE, Edit, Fact, called, from_reference, listed
from golden.weights.likely_orders import likely_orders
from golden.weights.orders import (
    Order,
    as_it_is,
    head_orders,
)
from golden.weights.sides import Numbers, Sides, split_role

_USUAL = ("norm_1", "norm_2", "q", "k", "v", "o", "gate", "up", "down", "qk_scale", "attn_alpha", "mlp_alpha")
"""The order in which two parts are named."""


def _usual(name: str) -> int:
    base = name.removesuffix("_bias").removesuffix("_scale") if name not in _USUAL else name
    return _USUAL.index(base) if base in _USUAL else len(_USUAL)


@dataclass(frozen=True)
class Lie:
    """The right content of the part ``role`` lies in the part ``at``: its rows in ``order``, or its columns, or
    transposed."""

    role: str
    at: str
    order: Order
    turned: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether all is as it should be but the place."""
        return not self.order.said and not self.turned

    def edit(self, sides: Sides) -> Edit:
        """Puts the content where it belongs."""

        def values() -> Numbers:
            found = sides.found.part(sides.parts[self.at])
            if self.turned == "transposed":
                return found.T
            return found[:, self.order.back] if self.turned == "columns" else found[self.order.back]

        return Edit(sides.parts[self.role], values)


def whole_moves(sides: Sides, census: Census) -> Mapping[str, Lie]:
    """Role -> where its right content lies, for parts whose content is somewhere as a whole."""
    table = defaultdict[tuple[int, tuple[int, int]], list[Lie]](list)
    for role in census.differing:
        for lie in _readings(sides, census, role):
            found, (rows, columns) = census.found[role], census.shapes[role]
            if lie.turned == "transposed":
                table[mixed(found.columns), (columns, rows)].append(lie)
            elif not lie.turned:
                table[mixed(found.rows[lie.order.back]), (rows, columns)].append(lie)
    lies = dict[str, Lie]()
    for role in census.differing:
        candidates = table.get((census.expected[role].whole, census.shapes[role]), [])
        candidates = [Lie(role, lie.at, lie.order, lie.turned) for lie in candidates] + _columns(sides, census, role)
        if candidates:
            lies[role] = min(candidates, key=lambda lie: _oddness(lie, census))
    return lies


def _oddness(lie: Lie, census: Census) -> tuple[bool, bool, int, bool, bool]:
    """How unlikely a reading is beside others that fit as well: the most likely one is least."""
    (i, name), (j, other) = split_role(lie.role), split_role(lie.at)
    mutual = census.found[lie.role].whole == census.expected[lie.at].whole
    return lie.at != lie.role, not mutual, abs((i or 0) - (j or 0)), name != other, not lie.is_plain


def _readings(sides: Sides, census: Census, role: str) -> Iterator[Lie]:
    """Ways in which the content of a part may have to be read."""
    rows, columns = census.shapes[role]
    yield Lie(role, role, as_it_is(rows))
    if columns > 1:
        yield Lie(role, role, as_it_is(rows), "transposed")
    for order in likely_orders(sides, census, role):
        yield Lie(role, role, order)


def _columns(sides: Sides, census: Census, role: str) -> list[Lie]:
    """Heads of o in another order, which are columns."""
    if split_role(role)[1] != "o" or not sides.head_dim:
        return []
    found, expected = census.found[role].columns, census.expected[role].columns
    if len(found) != sides.n_head * sides.head_dim:
        return []
    orders = head_orders(sides.n_head, sides.n_head_kv, sides.head_dim)
    return [Lie(role, role, order, "columns") for order in orders if (found[order.back] == expected).all()]


def move_facts(sides: Sides, census: Census, lies: Mapping[str, Lie]) -> Iterator[Fact]:
    """Statements about whole parts, one for each layer and kind of mistake."""
    left = dict(lies)
    yield from _layers(sides, census, left)
    yield from _exchanges(sides, left)
    yield from _own_orders(sides, left)
    for role, lie in left.items():
        claim = f"{_named(role)} lies in {_named(lie.at)}"
        if lie.order.said:
            claim += f", with its rows {lie.order.said}"
        if lie.turned == "transposed":
            claim += ", transposed"
        yield Fact(claim, "the right places", (role,), (lie.edit(sides),))


def _named(role: str) -> str:
    layer, name = split_role(role)
    return name if layer is None else f"{name} of layer {layer}"


def _layers(sides: Sides, census: Census, left: dict[str, Lie]) -> Iterator[Fact]:
    """Layers in another order: each has all the parts of another one."""
    moved = dict[int, int]()
    for layer, names in sides.layers.items():
        sources = {split_role(left[f"{layer}.{n}"].at)[0] for n in names if f"{layer}.{n}" in left}
        for source in sources - {layer, None}:
            assert source is not None
            if len(names) > 1 and all(_holds(census, f"{layer}.{name}", f"{source}.{name}") for name in names):
                moved[layer] = source
    if not moved:
        return
    roles = [role for role in left if split_role(role)[0] in moved]
    edits = tuple(
        Lie(role, f"{moved[layer]}.{name}", as_it_is(census.shapes[role][0])).edit(sides)
        for role in roles
        for layer, name in [split_role(role)]
        if layer is not None
    )
    for role in roles:
        del left[role]
    swapped = len(moved) == 2 and all(moved.get(source) == layer for layer, source in moved.items())
    order = [moved.get(layer, layer) for layer in range(sides.n_layer)]
    said = ", ".join(map(str, order)) if len(order) <= 40 else f"{', '.join(map(str, order[:40]))}, ..."
    claim = f"layers {listed([str(i) for i in sorted(moved)])} are exchanged" if swapped else ""
    claim = claim or f"the layers are in another order: what belongs to layers 0, 1, ... lies in layers {said}"
    yield Fact(claim, "the swap" if swapped else "the right order", tuple(roles), edits)


def _holds(census: Census, role: str, at: str) -> bool:
    """Whether a part holds the content that another one should hold."""
    return at in census.found and census.found[at].whole == census.expected[role].whole


def _exchanges(sides: Sides, left: dict[str, Lie]) -> Iterator[Fact]:
    """Pairs of parts, each of which holds what the other should."""
    within, across = defaultdict[int | None, list[tuple[str, str]]](list), defaultdict[tuple[int, int], list[str]](list)
    for role, lie in list(left.items()):
        back = left.get(lie.at)
        if (
            role not in left
            or back is None
            or back.at != role
            or role == lie.at
            or not (lie.is_plain and back.is_plain)
        ):
            continue
        (i, one), (j, other) = split_role(role), split_role(lie.at)
        if i == j:
            within[i].append((one, other) if _usual(one) <= _usual(other) else (other, one))
        elif one == other and i is not None and j is not None:
            across[i, j].append(one)
        else:
            claim = f"{_named(role)} and {_named(lie.at)} are exchanged"
            yield Fact(claim, "the swap", (role, lie.at), (lie.edit(sides), back.edit(sides)))
        left.pop(role), left.pop(lie.at)
    for layer, pairs in within.items():
        yield from _within(sides, layer, pairs)
    for (i, j), names in across.items():
        roles = tuple(f"{layer}.{name}" for layer in (i, j) for name in names)
        edits = tuple(_swapped(sides, f"{a}.{name}", f"{b}.{name}") for a, b in ((i, j), (j, i)) for name in names)
        yield Fact(f"{listed(names)} of layers {i} and {j} are exchanged", "the swap", roles, edits)


def _swapped(sides: Sides, role: str, at: str) -> Edit:
    return Lie(role, at, as_it_is(sides.shape(role)[0])).edit(sides)


def _within(sides: Sides, layer: int | None, pairs: list[tuple[str, str]]) -> Iterator[Fact]:
    """Exchanges in one layer; biases and scales go with their matrices."""
    beside = {(f"{one}_{kind}", f"{other}_{kind}"): kind for one, other in pairs for kind in ("bias", "scale")}
    start = "" if layer is None else f"{layer}."
    for pair in pairs:
        if pair in beside or pair[::-1] in beside:
            continue
        kinds = [k for k in ("bias", "scale") if any({f"{n}_{k}" for n in pair} == set(other) for other in pairs)]
        names = [*pair, *(f"{name}_{kind}" for kind in kinds for name in pair)]
        swaps = [
            (a, b) for one, other in zip(names[::2], names[1::2], strict=True) for a, b in ((one, other), (other, one))
        ]
        words = {"bias": "biases", "scale": "scales"}
        extra = f", with their {listed([words[kind] for kind in kinds])}" if kinds else ""
        yield Fact(
            f"{pair[0]} and {pair[1]} are exchanged{extra}",
            "the swap",
            tuple(f"{start}{name}" for name in names),
            tuple(_swapped(sides, f"{start}{a}", f"{start}{b}") for a, b in swaps),
            layers=() if layer is None else (layer,),
        )


def _own_orders(sides: Sides, left: dict[str, Lie]) -> Iterator[Fact]:
    """Parts whose own rows are in another order, or that are transposed."""
    groups = defaultdict[tuple[int | None, str, str], list[Lie]](list)
    for role, lie in list(left.items()):
        if lie.at == role:
            turned = "" if lie.turned == "columns" else lie.turned
            groups[split_role(role)[0], turned, lie.order.said].append(left.pop(role))
    for (layer, turned, said), lies in groups.items():
        roles = tuple(lie.role for lie in lies)
        names = called(roles)
        if turned:
            claim, undo = f"{names} {'is' if len(roles) == 1 else 'are'} transposed", "the transpose"
        elif "tiled" in said or "repeated" in said:
            other = "repeated instead of tiled" if "twice" in said else "tiled instead of repeated"
            claim, undo = f"key-value heads are {other}", lies[0].order.undo
        else:
            vectors = all(1 in sides.shape(role) for role in roles)
            claim, undo = f"{'entries' if vectors else 'rows'} of {names} are {said}", lies[0].order.undo
        edits = tuple(lie.edit(sides) for lie in lies)
        yield Fact(claim, undo, roles, edits, layers=() if layer is None else (layer,))


def copies(sides: Sides, census: Census, open_roles: list[str]) -> Iterator[Fact]:
    """Parts that hold what another part should hold, while their own content is lost. Takes them out of the list."""
    table = {(prints.whole, census.shapes[role]): role for role, prints in census.expected.items()}
    across = defaultdict[tuple[int, int], list[str]](list)
    for role in list(open_roles):
        source = table.get((census.found[role].whole, census.shapes[role]))
        if source is None or source == role or census.is_constant(source):
            continue
        open_roles.remove(role)
        (i, name), (j, other) = split_role(role), split_role(source)
        if name == other and i is not None and j is not None:
            across[i, j].append(name)
        else:
            claim = f"{_named(role)} holds what belongs to {_named(source)}"
            yield Fact(claim, REFERENCE, (role,), (from_reference(sides, role),))
    for (i, j), names in across.items():
        roles = tuple(f"{i}.{name}" for name in names)
        claim = f"{listed(names)} of layer {i} {'hold' if len(names) > 1 else 'holds'} what belongs to layer {j}"
        yield Fact(claim, REFERENCE, roles, tuple(from_reference(sides, role) for role in roles))
