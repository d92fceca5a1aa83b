"""Kinds of values of a config field, each in words and as a test; how messages write a value; when two are the same."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """What a value must be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


LARGEST = 2**31  # of any size; a larger one is no size of a model


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < LARGEST


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300


POSITIVE_INT = Kind("a positive integer", lambda v: _whole(v, 1))
POSITIVE = Kind("a positive number", lambda v: _number(v) and v > 0)
NOT_NEGATIVE = Kind("a number of at least 0", lambda v: _number(v) and v >= 0)
FRACTION = Kind("a number from 0 to 1", lambda v: _number(v) and 0 <= v <= 1)
BOOL = Kind("true or false", lambda v: type(v) is bool)
TOKEN = Kind("a token id or null", lambda v: v is None or _whole(v, 0))
TOKENS = Kind("a token id, a list of them, or null", lambda v: TOKEN.holds(v) or (type(v) is list and all(map(_id, v))))
DTYPE = Kind("a dtype name or null", lambda v: v is None or v in ("float64", "float32", "float16", "bfloat16"))
FACTORS = Kind(
    "a list of positive numbers", lambda v: type(v) is list and len(v) > 0 and all(_number(n) and n > 0 for n in v)
)


def _id(value: Any) -> bool:
    return _whole(value, 0)


def spelled(value: Any) -> str:
    """A value as messages write it: true, false and null as in JSON, strings in quotes."""
    names = {None: "null", True: "true", False: "false"}
    return names[value] if value is None or isinstance(value, bool) else repr(value)


def one_of(*values: Any) -> Kind:
    """One of a few values."""
    return Kind(f"one of {', '.join(map(spelled, values))}", lambda v: any(same(v, known) for known in values))


def same(one: Any, other: Any) -> bool:
    """Equality as JSON: 1 and 1.0 are the same number, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
