"""`--waive FIELD`: fields of a config that are ignored, also one inside another, as `rope_parameters.attn_factor`."""

from collections.abc import Collection, Mapping
from typing import Any

ROPE = ("rope_parameters", "rope_scaling")  # two names of one object, by the age of a config


def places(waived: str) -> tuple[tuple[str, str], ...]:
    """(field, name inside it) for a dotted name, in each spelling of the field; empty for a field at the top."""
    field, dot, name = waived.partition(".")
    if not dot:
        return ()
    return tuple((spelling, name) for spelling in (ROPE if field in ROPE else (field,)))


def is_said(config: Mapping[str, Any], waived: str) -> bool:
    """Whether a config has the field."""
    inside = (config.get(field) for field, _ in places(waived))
    return waived in config or any(isinstance(value, dict) and places(waived)[0][1] in value for value in inside)


def without(config: Mapping[str, Any], waived: Collection[str]) -> dict[str, Any]:
    """The config without these fields."""
    kept = {name: value for name, value in config.items() if name not in waived}
    for field, name in (place for one in waived if one not in config for place in places(one)):
        if isinstance(kept.get(field), dict):
            kept[field] = {key: value for key, value in kept[field].items() if key != name}
    return kept
