"""Reference models that transformers does not have: a plug-in family may bring its own."""

from importlib import import_module
from pathlib import Path
from typing import Any

from golden.errors import MissingClassError, UnknownLevelError


def config_class(name: str) -> Any:
    """A config class by its name in transformers, or by "package.module.Class", which imports that module.

    Raises:
        MissingClassError: transformers does not have it.
        UnknownLevelError: the module of another package cannot be imported, or does not have it.
    """
    module, _, attribute = name.rpartition(".")
    if not module and (sentence := lacks(attribute)):
        raise MissingClassError(sentence)
    try:
        return getattr(import_module(module or "transformers"), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownLevelError(
            f"the config class {name!r} of a hot model cannot be imported ({error}); name one of transformers, or "
            '"package.module.Class" of an installed package'
        ) from error


def lacks(name: str) -> str:
    """That transformers has no class of this name, in a sentence; empty where it does, or another package has to."""
    import transformers

    if "." in name or hasattr(transformers, name):
        return ""
    return f"transformers {transformers.__version__} has no {name}"


def check_known(folder: Path, model_type: object) -> None:
    """Check that a model type is one of transformers, or was registered with it.

    Raises:
        MissingClassError: it is not, so that no model can be built.
    """
    from transformers import CONFIG_MAPPING, __version__

    if isinstance(model_type, str) and model_type not in CONFIG_MAPPING:
        raise MissingClassError(
            f"{folder}: transformers {__version__} has no class for the model_type {model_type!r} of its config.json; "
            "judging needs a release of transformers that has one, conversion does not"
        )


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
