"""The family that a config.json belongs to, and the one that is converted to."""

from collections.abc import Collection, Mapping
from typing import Any

from converters.config.table import RESIDUE
from converters.errors import ConfigRefused, UsageError
from converters.family import OURS, Family, find_family, find_umbrella, has_file, list_families
from converters.generations.configs import MODEL_TYPES

NOT_CONVERTED = {
    "NGPTForCausalLM": "Normalized-Nemotron is not converted: neither its weights nor its modelling code are public, so"
    " nothing could judge a conversion",
    "nGPTForCausalLM": "the nGPT of lm-engine is not converted: its attention is in no public code, so nothing could"
    " judge a conversion",
}
"""Class of a model that is known -> why it is not converted."""


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
    if wanted and (_fits(wanted, config, named=True) or is_unnamed(config)):
        return wanted.name
    built_in = chosen is not None and has_file(chosen)
    fitting = [family.name for family in list_families(plugins=not built_in) if _fits(family, config)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigRefused(
            f"config.json fits {' and '.join(fitting)}; say which it is, for example: convert {fitting[0]} SOURCE"
        )
    if is_unnamed(config):
        raise ConfigRefused("config.json has no model_type; say which family it is: convert FAMILY SOURCE --to TARGET")
    _refuse_known(config)
    said = config.get("model_type"), config.get("architectures")
    raise ConfigRefused(
        f"config.json has model_type {said[0]!r} and architectures {said[1]!r}; the known types are"
        f" {', '.join(_known_types())}"
    )


def _known_types() -> list[str]:
    """What programs write as `model_type`; names of forms that have no config.json of their own are left out."""
    told = [family for family in list_families() if not family.dialect_of or family.classes]
    return [*MODEL_TYPES, *(model_type for family in told for model_type in family.model_types)]


def is_unnamed(config: Mapping[str, Any]) -> bool:
    """Whether a config has sizes alone and names neither a type nor a class."""
    return not config.get("model_type") and not config.get("architectures")


def _fits(family: Family, config: Mapping[str, Any], *, named: bool = False) -> bool:
    """Whether a config says that it is of this family; `named`: a user does, so it need not name a class."""
    model_type, classes = config.get("model_type"), config.get("architectures")
    if not model_type:
        return family.config.names_own_class(classes) or bool(family.knows and family.knows(config))
    own = not family.classes or bool(_named(config, family.classes)) or (named and not classes)
    return model_type in family.model_types and own


def _named(config: Mapping[str, Any], classes: Collection[str]) -> list[str]:
    """Those of the classes that a config names."""
    said = config.get("architectures")
    return [name for name in classes if isinstance(said, list) and name in said]


def _refuse_known(config: Mapping[str, Any]) -> None:
    """Raises ConfigRefused for models that are known and not converted, with the reason."""
    for name in _named(config, NOT_CONVERTED):
        raise ConfigRefused(f"config.json names the class {name}: {NOT_CONVERTED[name]}")
    sharing = [(family.name, name) for family in list_families(plugins=False) for name in family.classes]
    if any(config.get("model_type") in family.model_types for family in list_families() if family.classes):
        known = ", ".join(f"{name} ({family})" for family, name in sharing)
        raise ConfigRefused(
            f"config.json has model_type {config.get('model_type')!r}, which several programs use for models that"
            f" compute different functions, and architectures {config.get('architectures')!r}; those that are converted"
            f" name {known}"
        )
