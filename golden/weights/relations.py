"""How the values of a part are related to those that should be there: negated, multiplied, rounded, lost, random."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import sqrt

import numpy as np

from golden.weights.sides import Numbers

EPS = {"F64": 2.0**-52, "F32": 2.0**-23, "F16": 2.0**-10, "BF16": 2.0**-7}
NARROWER = {"F64": ("F32", "BF16", "F16"), "F32": ("BF16", "F16"), "F16": (), "BF16": ()}
WORDS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
FEW = 8
"""Values below which only a factor with a name counts as one: any two numbers have some ratio."""
MANY = 256
"""Values from which on a distribution can be told."""
RANDOM = "holds values that have nothing to do with the right ones, distributed as an initialisation leaves them"


@dataclass(frozen=True)
class Relation:
    """A relation of found and expected values. ``invert`` computes the right values from those that were found.

    Attributes:
        said: a predicate for a subject of one: "is negated".
        undo: what undoes it.
    """

    said: str
    undo: str
    invert: Callable[[Numbers], Numbers] | None = None
    exact: bool = False

    def predicate(self, several: bool) -> str:
        """The predicate for one subject, or for several."""
        for one, many in (("is ", "are "), ("holds ", "hold "), ("has ", "have ")) if several else ():
            if self.said.startswith(one):
                return many + self.said.removeprefix(one)
        return self.said


def relation(found: Numbers, expected: Numbers, dtype: str, sizes: dict[str, float]) -> Relation | None:
    """The relation that holds for all these pairs of values, of one dimension; None where there is none.

    Args:
        sizes: names of factors that mistakes have, with their values.
    """
    with np.errstate(all="ignore"):
        return next(_relations(found, expected, dtype, sizes), None)


def _relations(found: Numbers, expected: Numbers, dtype: str, sizes: dict[str, float]) -> Iterator[Relation]:
    wide, true = found.astype(np.float64), expected.astype(np.float64)
    if not np.isfinite(wide).all():
        count = int((~np.isfinite(wide)).sum())
        if count == len(wide):
            yield Relation("is NaN or infinite", "")
        return
    if not wide.any():
        yield Relation("is zero", "")
    if (wide == -true).all():
        yield Relation("is negated", "the negation", lambda values: -values, exact=True)
    for narrow in NARROWER[dtype]:
        if np.array_equal(rounded(expected, narrow), found):
            yield Relation(f"is rounded through {WORDS[narrow]}", "")
    yield from _factors(wide, true, dtype, sizes)
    yield from _shifts(wide, true, dtype)


def rounded(values: Numbers, narrow: str) -> Numbers:
    """Values rounded through a narrower dtype."""
    single = values.astype(np.float32)
    if narrow == "F32":
        return single.astype(values.dtype)
    if narrow == "F16":
        return single.astype(np.float16).astype(values.dtype)
    patterns = single.view(np.uint32)
    patterns = (patterns + (((patterns >> 16) & 1) + np.uint32(0x7FFF))) & np.uint32(0xFFFF0000)
    return patterns.view(np.float32).astype(values.dtype)


def _factors(found: Numbers, true: Numbers, dtype: str, sizes: dict[str, float]) -> Iterator[Relation]:
    usable = true != 0
    if not usable.any():
        return
    largest = int(np.abs(true).argmax())
    measured = float(found[largest] / true[largest])
    named = [(name, value) for name, value in sizes.items() if abs(measured / value - 1) < 8 * EPS[dtype]]
    if not named and len(found) < FEW:
        return
    factor = named[0][1] if named else measured
    slack = 4 * EPS[dtype] * np.abs(factor * true) + np.finfo(np.float32).tiny
    if not np.isfinite(factor) or factor in (0.0, 1.0) or not (np.abs(found - factor * true) <= slack).all():
        return
    said = f"{factor:.6g}" + (f" ({named[0][0]})" if named and named[0][0] else "")
    yield Relation(f"is multiplied by {said}", f"the division by {factor:.6g}", lambda values: values / factor)


def _shifts(found: Numbers, true: Numbers, dtype: str) -> Iterator[Relation]:
    for by in (1.0, -1.0):
        slack = 4 * EPS[dtype] * (np.abs(true) + 1)
        if (np.abs(found - true - by) <= slack).all():
            said = "too large by 1" if by > 0 else "too small by 1"
            word = "subtraction" if by > 0 else "addition"
            yield Relation(f"is {said}", f"the {word} of 1", partial(_shifted, by=-by))


def _shifted(values: Numbers, by: float) -> Numbers:
    shifted: Numbers = values + by
    return shifted


def shaped_relation(found: Numbers, expected: Numbers, dtype: str, *, whole: bool) -> Relation | None:
    """A relation of rows (rows, columns): they were normalised, hold one value, or random ones. ``whole``: all rows."""
    if not np.isfinite(found).all():
        return None
    wide, true = found.astype(np.float64), expected.astype(np.float64)
    if found.shape[1] > 1:
        for axis, word in ((1, "rows"), (0, "columns"))[: 1 + whole]:
            lengths = np.sqrt((true**2).sum(axis, keepdims=True))
            slack = 64 * EPS[dtype] * (np.abs(wide) + 1e-6)
            if (lengths > 0).all() and (np.abs(wide - true / lengths) <= slack).all():
                return Relation(f"has {word} that were divided by their lengths", "")
    if not whole:
        return None
    if found.size > 1 and (found == found.flat[0]).all():
        return Relation(f"is {found.flat[0]:.6g} everywhere, as an initialisation leaves it", "")
    if found.size > 1 and np.array_equal(np.sort(found, axis=None), np.sort(expected, axis=None)):
        return Relation("holds the right values in another order", "")
    return Relation(RANDOM, "") if _is_noise(wide, true) else None


def _is_noise(found: Numbers, true: Numbers) -> bool:
    """Whether values are distributed as by an initialisation, normal or uniform, and not related to the right ones."""
    x, y = found.reshape(-1), true.reshape(-1)
    if x.size < MANY or not x.std() or not y.std():
        return False
    centred, spread = x - x.mean(), x.std()
    correlation = float((centred * (y - y.mean())).mean() / (spread * y.std()))
    kurtosis = float((centred**4).mean() / spread**4)
    width = 6 * sqrt(24 / x.size) + 0.05
    shaped = any(abs(kurtosis - usual) < width for usual in (3.0, 1.8))
    return shaped and abs(correlation) < 5 / sqrt(x.size) and abs(float(x.mean())) < 5 * spread / sqrt(x.size)


def named_factors(head_dim: int, width: int) -> dict[str, float]:
    """Factors that conversions get wrong, by name."""
    found = {"": 2.0, "1/2": 0.5}
    for size, name in ((head_dim, "head size"), (width, "width of the model")):
        if size > 1:
            found[f"sqrt({size}); {size} is the {name}"] = sqrt(size)
            found[f"1/sqrt({size}); {size} is the {name}"] = 1 / sqrt(size)
            found[f"1/{size}; {size} is the {name}"] = 1 / size
            found[f"{size}, the {name}"] = float(size)
            found[f"the fourth root of {size}, the {name}"] = size**0.25
            found[f"1 over the fourth root of {size}, the {name}"] = size**-0.25
    return found
