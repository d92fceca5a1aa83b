"""Equal layers as one row: `layers.{1..30}.mlp.fc1 <- up_proj + gate_proj, x 30`."""

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

NUMBER = re.compile(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)")
HOLE = "{}"
Numbered = tuple[str, int | None]


@dataclass(frozen=True)
class Fold:
    """Rows that differ in the number of their layer alone: their key, their count, and where the first of them is."""

    key: str
    count: int
    first: int
    begins: str


def folded(rows: Iterable[tuple[str, Hashable]]) -> list[Fold]:
    """Rows, each a key and what must be equal, with equal layers in one. They come in the order of their layers.

    A text among what must be equal is equal in another layer, too, if it differs in the number of that layer alone.
    """
    found: dict[Hashable, list[tuple[int | None, int]]] = {}
    for place, (key, rest) in enumerate(rows):
        template, number = numbered(key)
        found.setdefault((template, rest), []).append((number, place))
    folds = [_fold(str(group[0]), members) for group, members in found.items() if isinstance(group, tuple)]
    return sorted(folds, key=lambda fold: natural(fold.begins))


def _fold(template: str, members: Sequence[tuple[int | None, int]]) -> Fold:
    numbers = [number for number, _ in members if number is not None]
    begins = template.replace(HOLE, str(min(numbers, default="")), 1)
    return Fold(filled(template, numbers), len(members), min(place for _, place in members), begins)


def numbered(key: str) -> Numbered:
    """A key with a hole in place of the number of its layer, and that number; None where it has none."""
    match = NUMBER.search(key)
    return (f"{key[: match.start()]}{HOLE}{key[match.end() :]}", int(match[0])) if match else (key, None)


def filled(template: str, numbers: Sequence[int]) -> str:
    """A key with the numbers of its layers in its hole: `{1..30}`, `{0..3,5}`, or the number alone."""
    runs = list(_runs(sorted(set(numbers))))
    text = ",".join(str(a) if a == b else f"{a}..{b}" for a, b in runs)
    return template.replace(HOLE, text if len(set(numbers)) == 1 else f"{{{text}}}", 1) if runs else template


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for k, number in enumerate(numbers):
        if k + 1 == len(numbers) or numbers[k + 1] != number + 1:
            yield numbers[start], number
            start = k + 1


def natural(key: str) -> list[tuple[int, int, str]]:
    """A key to sort by: numbers by value, so that layer 2 comes before layer 10."""
    parts = re.split(r"(\d+)", key)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def short_sources(keys: Sequence[str]) -> str:
    """Where a tensor comes from, without the part that the key of its layer says already."""
    tails = [re.split(r"(?:^|\.)\d+\.", key, maxsplit=1)[-1] for key in keys]
    if len(tails) > 1:
        parents = zip(*(tail.split(".")[:-1] for tail in tails), strict=False)
        start = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, parents)]
        tails = [".".join(tail.split(".")[len(start) :]) for tail in tails]
    return " + ".join(tails)


def without_weight(ours: str, theirs: Sequence[str]) -> tuple[str, list[str]]:
    """Keys without `.weight`, where all of them end in it."""
    end = ".weight"
    if not theirs or not all(key.endswith(end) for key in (ours, *theirs)):
        return ours, list(theirs)
    return ours.removesuffix(end), [key.removesuffix(end) for key in theirs]
