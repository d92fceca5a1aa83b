"""Small models of a family: one to try it with, and one to test it with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    """A small model: its config, and how tensors are drawn that are neither matrices nor biases.

    reach: end of a key -> (least, most) of the absolute values. signed: ends of keys whose values have either sign.
    bfloat16: ends of the keys of tensors that are stored in it; all others are float32.
    """

    config: Mapping[str, Any]
    reach: Mapping[str, tuple[float, float]]
    signed: tuple[str, ...] = ()
    bfloat16: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hot:
    """A small model that a family is tested with, and what the tests vary in it.

    config_class: the name of a config class of transformers, or "package.module.Class" of another; importing that
    module must register the class and its model with transformers' Auto classes. sizes: fields of the small model.
    draws: field -> values to try, in place of those that the tests know for the field; () leaves the field alone.
    refuses: what the family refuses on purpose, as name -> words that the refusal contains. harmless: wrong tables of
    the tests, by their names, that compute the same function as the right one.
    """

    config_class: str
    sizes: Mapping[str, Any]
    draws: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    refuses: Mapping[str, str] = field(default_factory=dict)
    harmless: tuple[str, ...] = ()
