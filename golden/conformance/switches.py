"""Switches of a family's config table that no variant ever turned on: nothing was tested of them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from converters.config.entries import Choice, Entry, Field, Flag
from converters.config.kinds import BOOL, same
from converters.config.layout import resolve
from converters.errors import ConversionError
from converters.families.shared.ngpt_fields import Either
from converters.family import Family
from golden.conformance.variants import variants
from golden.models.hot import hot_config

Config = Mapping[str, Any]


def converted_configs(family: Family) -> list[Config]:
    """The config.json of every variant that the family does not refuse."""
    written = [json.loads(hot_config(family.name, **one).to_json_string()) for one in variants(family.name)]
    return [config for config in written if _converts(family, config)]


def _converts(family: Family, config: Config) -> bool:
    try:
        resolved = resolve(family.config.to_ours(config, family.name))
        family.dims(resolved)
        family.rules(resolved)
    except ConversionError:
        return False
    return True


def never_on(family: Family, configs: list[Config]) -> list[str]:
    """`name = value` for each switch of the table and each value, other than its default, that no config has."""
    switches = [(name, values) for entry in family.config.entries for name, values in _switch(entry)]
    return [
        f"{name} = {json.dumps(value)}"
        for name, values in switches
        for value in values
        if not any(name in config and same(config[name], value) for config in configs)
    ]


def _switch(entry: Entry) -> Iterator[tuple[str, list[Any]]]:
    """The field of a switch and what turns it on: a flag, a choice, a kind, or true and false of the architecture."""
    if isinstance(entry, Flag):
        yield entry.name, [True]
    elif isinstance(entry, Choice):
        yield entry.name, [theirs for theirs, _ in entry.pairs[1:]]
    elif isinstance(entry, Either):
        yield entry.name, [theirs for theirs, _, _ in entry.kinds[1:]]
        for _, _, entries in entry.kinds:
            for inner in entries:
                yield from _switch(inner)
    elif isinstance(entry, Field) and entry.kind is BOOL and entry.ours[0].startswith("architecture."):
        yield entry.name, [value for value in (False, True) if value is not entry.default]
