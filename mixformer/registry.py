"""Registries: finding the class that a configuration names, and checking its keywords."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from torch import nn

from mixformer.errors import ConfigurationError, invalid, unknown_keywords, unknown_name
from mixformer.plugins import load_parts_of

ModuleClass = type[nn.Module]

# The factories pass these, so a configuration cannot give them.
SUPPLIED = frozenset({"self", "config", "layer_idx", "block_idx", "normalized_shape"})


def look_up(registry: Mapping[str, ModuleClass], name: object, path: str) -> ModuleClass:
    """The class registered as `name`; one of another package is imported first.

    Raises:
        ConfigurationError: if there is none; the message lists the names that exist.
        MissingPackageError: if it belongs to a package that is not installed.
    """
    if isinstance(name, str) and name not in registry:
        load_parts_of(name, path)
    if not isinstance(name, str) or name not in registry:
        raise unknown_name(path, name, registry)
    return registry[name]


def class_and_keywords(
    registry: Mapping[str, ModuleClass], kind: str, entry: Mapping[str, Any], path: str
) -> tuple[ModuleClass, dict[str, Any]]:
    """Split a sub-dict such as `{"mixer_cls": "mha", "bias": False}` into its class and a copy of its keywords.

    Raises:
        ConfigurationError: for a missing or unknown `<kind>_cls`.
        UnknownKeywordError: for a keyword that the class does not take.
    """
    keywords = copy.deepcopy(dict(entry))
    if f"{kind}_cls" not in keywords:
        raise ConfigurationError(f"`{path}.{kind}_cls` must be specified.")
    module_class = look_up(registry, keywords.pop(f"{kind}_cls"), f"{path}.{kind}_cls")
    check_keywords(module_class, keywords, path)
    check_types(module_class, keywords, path)
    return module_class, keywords


def check_keywords(module_class: ModuleClass, keywords: Mapping[str, Any], path: str) -> None:
    """Refuse keywords that the constructor of `module_class` does not take.

    Raises:
        UnknownKeywordError: listing the keywords that exist.
    """
    if takes_any_keyword(module_class):
        return
    known = {name for name in _parameters(module_class) if name not in SUPPLIED}
    unknown = set(keywords) - known
    if unknown:
        raise unknown_keywords(path, unknown, known)


def check_types(module_class: ModuleClass, keywords: Mapping[str, Any], path: str) -> None:
    """Refuse values that contradict the annotations of a class of this package: a string "false" is true in Python.

    Classes of other packages are not checked, because their annotations may mean something else.

    Raises:
        ConfigurationError: naming the keyword and its type.
    """
    if not module_class.__module__.startswith(f"{__package__}."):
        return
    hints = _hints(module_class.__init__)
    for name, value in keywords.items():
        if name in hints and not _fits(value, hints[name]):
            expected = str(hints[name]) if get_args(hints[name]) else hints[name].__name__
            raise invalid(f"{path}.{name}", value, f"of type {expected}")


def _fits(value: object, hint: Any) -> bool:
    """Whether a value has an annotated type; whole numbers pass for floats, booleans for neither."""
    if hint is Any:
        return True
    if get_origin(hint) is UnionType or get_origin(hint) is Union:
        return any(_fits(value, option) for option in get_args(hint))
    kind = get_origin(hint) or hint
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float if kind is float else kind)


def takes_any_keyword(module_class: ModuleClass) -> bool:
    """Whether the constructor ends in `**kwargs`."""
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in _parameters(module_class).values())


def takes(module_class: ModuleClass, name: str) -> bool:
    """Whether the constructor can be called with keyword `name`."""
    return name in _parameters(module_class) or takes_any_keyword(module_class)


def _parameters(module_class: ModuleClass) -> Mapping[str, inspect.Parameter]:
    return _parameters_of(module_class.__init__)


# Remembered by constructor: every layer of every model asks again, and both take longer than to make a small module.
@cache
def _parameters_of(constructor: Callable[..., None]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(constructor).parameters


@cache
def _hints(constructor: Callable[..., None]) -> Mapping[str, Any]:
    return get_type_hints(constructor)
