"""Reference models that transformers does not have: a plug-in family may bring its own."""

from importlib import import_module
from typing import Any

from golden.errors import UnknownLevelError


def config_class(name: str) -> Any:
    """A config class by its name in transformers, or by "package.module.Class", which imports that module.

    Raises:
        UnknownLevelError: there is none, or its module cannot be imported.
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module or "transformers"), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownLevelError(
            f"the config class {name!r} of a hot model cannot be imported ({error}); name one of transformers, or "
            '"package.module.Class" of an installed package'
        ) from error


def register_reference(model_type: object) -> None:
    """Import the package that brings the reference implementation of a model type, where transformers has none.

    Raises:
        UnknownLevelError: its module cannot be imported.
    """
    from transformers import CONFIG_MAPPING

    from converters.family import Hot, list_families

    if not isinstance(model_type, str) or model_type in CONFIG_MAPPING:
        return
    for family in list_families():
        if model_type in family.model_types and isinstance(family.hot, Hot) and "." in family.hot.config_class:
            config_class(family.hot.config_class)
