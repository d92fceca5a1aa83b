"""The family that a config.json belongs to, and the one that is converted to."""

from collections.abc import Mapping
from typing import Any

from converters.config.table import RESIDUE
from converters.errors import ConfigRefused, UsageError
from converters.family import OURS, Family, find_family, find_umbrella, has_file, list_families
from converters.generations.configs import MODEL_TYPES


def target_family(to: str, config: Mapping[str, Any], dialect: str | None = None) -> str:
    """The family to convert to: for an umbrella the dialect that is named, or the one that a config came from.

    Raises:
        UsageError: an umbrella, and nothing tells which of its dialects is meant; or one it does not have.
    """
    umbrella = find_umbrella(to)
    if umbrella is None:
        return to
    if dialect is not None:
        return umbrella.family(dialect)
    residue = config.get(RESIDUE)
    origin = residue.get("family") if isinstance(residue, dict) else config.get("model_type")
    if origin in [f"{to}-{name}" for name in umbrella.dialects]:
        return str(origin)
    raise UsageError(
        f"--to {to}: this model came from none of its dialects; name one: --dialect {' or '.join(umbrella.dialects)}"
    )


def family_of(config: Mapping[str, Any], chosen: str | None = None) -> str:
    """The name of the family that a config.json belongs to, by `model_type` or, without one, by `architectures`.

    chosen: the family to take where several fit or config.json names none, as those of 2019 do; ignored if it does not
    fit or does not exist.

    Raises:
        ConfigRefused: no family fits, or several do and none is chosen.
    """
    if config.get("model_type") in MODEL_TYPES:
        return OURS
    wanted = find_family(chosen) if chosen and chosen != OURS and not find_umbrella(chosen) else None
    if wanted and (_fits(wanted, config) or is_unnamed(config)):
        return wanted.name
    built_in = chosen is not None and has_file(chosen)
    fitting = [family.name for family in list_families(plugins=not built_in) if _fits(family, config)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigRefused(
            f"config.json fits {' and '.join(fitting)}; say which it is, for example: convert {fitting[0]} SOURCE"
        )
    known = ", ".join([*MODEL_TYPES, *(t for family in list_families() for t in family.model_types)])
    if is_unnamed(config):
        raise ConfigRefused("config.json has no model_type; say which family it is: convert FAMILY SOURCE --to TARGET")
    said = config.get("model_type"), config.get("architectures")
    raise ConfigRefused(
        f"config.json has model_type {said[0]!r} and architectures {said[1]!r}; the known types are {known}"
    )


def is_unnamed(config: Mapping[str, Any]) -> bool:
    """Whether a config has sizes alone and names neither a type nor a class."""
    return not config.get("model_type") and not config.get("architectures")


def _fits(family: Family, config: Mapping[str, Any]) -> bool:
    """Whether a config says that it is of this family."""
    model_type, classes = config.get("model_type"), config.get("architectures")
    return model_type in family.model_types if model_type else family.config.names_own_class(classes)
