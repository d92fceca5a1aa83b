"""Fingerprints of every row and column on both sides, so that rows can be looked for anywhere without keeping them.

A fingerprint is a sum of bit patterns times fixed random numbers, modulo 2**64. A column's fingerprint is that of the
same row in the transposed matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from golden.weights.sides import Numbers, Sides

Prints = np.ndarray[Any, np.dtype[np.uint64]]
_FACTORS: list[Prints] = []


def factors(count: int, row: int = 0) -> Prints:
    """The first ``count`` of the fixed random numbers, all odd; there are two rows of them."""
    if not _FACTORS or len(_FACTORS[0]) < count:
        size = max(count, 1 << 16)
        drawn = [np.random.default_rng(seed).integers(0, 1 << 64, size, dtype=np.uint64) for seed in (0, 1)]
        _FACTORS[:] = [numbers | np.uint64(1) for numbers in drawn]
    return _FACTORS[row][:count]


def bits(values: Numbers) -> Prints:
    """The bit patterns of floating-point numbers, as 64-bit integers."""
    values = np.ascontiguousarray(values)
    found: Prints = values.view(np.uint64 if values.itemsize == 8 else np.uint32).astype(np.uint64)
    return found


def mixed(prints: Prints) -> int:
    """One fingerprint of several, in their order. With the numbers of a row's print it would not see a transpose."""
    return int((prints * factors(len(prints), 1)).sum(dtype=np.uint64))


@dataclass(frozen=True)
class PartPrints:
    """Fingerprints of one part on one side: of its rows, and of its columns where it is a matrix."""

    rows: Prints
    columns: Prints

    @cached_property
    def whole(self) -> int:
        """The fingerprint of all rows in order."""
        return mixed(self.rows)


@dataclass(frozen=True)
class Census:
    """Fingerprints of all parts of both sides. ``shapes`` are (rows, columns)."""

    found: Mapping[str, PartPrints]
    expected: Mapping[str, PartPrints]
    shapes: Mapping[str, tuple[int, int]]

    @cached_property
    def differing(self) -> tuple[str, ...]:
        """Roles of the parts that are not what they should be."""
        return tuple(role for role in self.found if bool(self.changed(role).any()))

    def changed(self, role: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which rows of a part are not what they should be."""
        return np.asarray(self.found[role].rows != self.expected[role].rows)

    def is_constant(self, role: str) -> bool:
        """Whether all rows that should be there are equal: then one cannot be told from the other."""
        rows = self.expected[role].rows
        return len(rows) > 1 and bool((rows == rows[0]).all())


def take_census(sides: Sides) -> Census:
    """Read both sides once."""
    found, expected, shapes = dict[str, PartPrints](), dict[str, PartPrints](), dict[str, tuple[int, int]]()
    for role in sides.parts:
        shapes[role] = sides.shape(role)
        found[role], expected[role] = _of_part(sides, role, *shapes[role])
    return Census(found, expected, shapes)


def _of_part(sides: Sides, role: str, rows: int, columns: int) -> Iterator[PartPrints]:
    prints = [np.zeros(rows, np.uint64) for _ in range(2)]
    across = [np.zeros(columns, np.uint64) for _ in range(2)]
    for start, found, expected in sides.blocks(role):
        first = _of_block(found, start, rows)
        second = first if np.array_equal(_raw(found), _raw(expected)) else _of_block(expected, start, rows)
        for side, (along, over) in enumerate((first, second)):
            prints[side][start : start + len(found)] = along
            across[side] += over
    return (PartPrints(row, column) for row, column in zip(prints, across, strict=True))


def _of_block(block: Numbers, start: int, rows: int) -> tuple[Prints, Prints]:
    """Prints of the rows of a block, and what it adds to those of the columns."""
    patterns = bits(block)
    along = (patterns * factors(block.shape[1])).sum(1, dtype=np.uint64)
    return along, (patterns * factors(rows)[start : start + len(block), None]).sum(0, dtype=np.uint64)


def _raw(block: Numbers) -> Numbers:
    return np.ascontiguousarray(block).view(np.uint8)
