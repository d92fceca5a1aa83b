"""Hot models: tiny models with seeded weights, in which every weight matters.

A freshly initialised model hides faults: its norms are one and its biases zero, so swapped norms and lost biases change
nothing. Here norms are 1 ± 0.2, biases ± 0.2, and queries and keys have a gain of 1.5 so that attention is
peaked. No two sizes are equal by accident: heads x head_dim is not n_embd, the vocabulary is odd.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from converters.family import Hot, get_family, list_families, umbrellas
from golden.errors import UnknownLevelError
from golden.models.hot_dialects import DialectConfig, write_dialect
from golden.models.hot_recipes import RECIPES
from golden.models.loading import silenced
from golden.references.own_references import config_class, lacks

QUERIES_OR_KEYS = ("q_proj", "k_proj", "qkv", "c_attn", "Wqkv", "query.", "key.")
"""Parts of the names of parameters that make queries or keys."""


def recipe(family: str) -> Hot:
    """The recipe of a family's hot model: of a built-in family here, of any other in its FAMILY.

    Raises:
        UnknownLevelError: there is no recipe for the family.
    """
    found = RECIPES.get(family) or get_family(family).hot
    if found is None:
        raise UnknownLevelError(f"no hot model is known for {family!r}; give its FAMILY a `hot` recipe")
    return found if isinstance(found, Hot) else Hot(*found)


def has_recipe(family: str) -> bool:
    """Whether there is a hot model of a family."""
    return family in RECIPES or get_family(family).hot is not None


def lacking(family: str) -> str:
    """That transformers lacks the class of a family's hot model, in a sentence; empty where nothing is missing."""
    return lacks(recipe(family).config_class) if has_recipe(family) else ""


def own_functions() -> list[str]:
    """Names of all families but those that are only another file form of one.

    The tests of a form's reader prove its function. Dialects under a name that is no family have functions of their
    own.
    """
    return [family.name for family in list_families() if family.dialect_of in ("", *umbrellas())]


def hot_config(family: str, **overrides: Any) -> Any:
    """The config of a family's hot model; ``overrides`` are fields that replace the recipe's.

    Raises:
        UnknownLevelError: there is no recipe for the family, or its config class cannot be imported.
        MissingClassError: transformers has no such config class.
    """
    found = recipe(family)
    return config_class(found.config_class)(**{**found.sizes, **overrides})


def make_hot(family: str, folder: Path, seed: int = 0, **overrides: Any) -> Path:
    """Save a hot model of ``family``, as its reference implementation saves it, into ``folder`` and return it.

    Args:
        overrides: config fields that replace the recipe's.

    Raises:
        UnknownLevelError: there is no recipe for the family, or its config class cannot be imported.
        MissingClassError: transformers has no such config class.
    """
    import transformers

    config = hot_config(family, **overrides)
    if isinstance(config, DialectConfig):
        return write_dialect(config, folder, seed)
    with silenced(), torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        heat(model, seed)
        model.save_pretrained(folder)
    return folder


def heat(model: torch.nn.Module, seed: int) -> None:
    """Overwrite all parameters with the values of a hot model, drawn from ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_hot_values(name, parameter, generator))


def _hot_values(name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    noise: Tensor = torch.randn(parameter.shape, generator=generator)
    if name.endswith("bias"):
        return 0.2 * noise
    if parameter.ndim == 1:
        return 1.0 + 0.2 * noise
    gain = 1.5 if any(part in name for part in QUERIES_OR_KEYS) else 1.0
    return noise * (gain / math.sqrt(parameter.shape[-1]))
