"""The `architecture` of a configuration: what it may look like, and its one normal form.

`architecture` is a dict (the same block `n_layer` times), a list of dicts (one per block) or nothing. A key that is
missing takes its default; a sub-dict that is present is left as it is. Nothing here mutates what the caller passed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mixformer.errors import ArchitectureTypeError, ConfigurationError, invalid

DEFAULT_BLOCK: dict[str, Any] = {
    "block_cls": "parallel",
    "norm": {"norm_cls": "torch"},
    "mixer": {"mixer_cls": "mha"},
    "mlp": {"mlp_cls": "fused_mlp"},
}

SUB_DICTS = ("norm", "mixer", "mlp")
TASK_DICTS = ("head", "loss")

Architecture = dict[str, Any] | list[dict[str, Any]]


def normal_form(architecture: object, first_generation_norm: Mapping[str, Any]) -> Architecture:
    """A deep copy of `architecture` with defaults in the place of missing keys.

    Args:
        architecture: A dict, a list of dicts, or None / empty for the default dict.
        first_generation_norm: The norm of a block written by the first generation (`mixer: {}`, no `norm`), whose
            epsilon was `layer_norm_epsilon`; later generations ignore that field.

    Raises:
        ArchitectureTypeError: for anything but dicts and lists of dicts.
        ConfigurationError: for a sub-dict without its class.
    """
    if not architecture:
        return copy.deepcopy(DEFAULT_BLOCK)
    if isinstance(architecture, Mapping):
        return _normal_block(architecture, "architecture", first_generation_norm)
    if not isinstance(architecture, list | tuple):
        raise ArchitectureTypeError(
            f"`architecture` must be a dictionary or list of dictionaries, but got {type(architecture).__name__}."
        )
    return [_normal_block(item, f"architecture[{i}]", first_generation_norm) for i, item in enumerate(architecture)]


def is_first_generation(architecture: object) -> bool:
    """Whether a block is spelled as the first generation spelled it: a mixer that names no class."""
    if isinstance(architecture, list | tuple):
        return any(is_first_generation(item) for item in architecture)
    if not isinstance(architecture, Mapping):
        return False
    mixer = architecture.get("mixer")
    return isinstance(mixer, Mapping) and "mixer_cls" not in mixer and not mixer


def _normal_block(block: object, path: str, first_generation_norm: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(block, Mapping):
        raise ArchitectureTypeError(f"`{path}` must be a dictionary, but got {block!r}.")
    normal = copy.deepcopy(dict(block))
    if "path" in normal:  # legacy name, wins over block_cls
        normal["block_cls"] = normal.pop("path")
    if is_first_generation(block):
        normal["mixer"] = {"mixer_cls": "mha"}
        normal.setdefault("norm", dict(first_generation_norm))
    for key, default in DEFAULT_BLOCK.items():
        normal.setdefault(key, copy.deepcopy(default))
    _check_sub_dicts(normal, path)
    return normal


def _check_sub_dicts(block: Mapping[str, Any], path: str) -> None:
    for key in (*SUB_DICTS, *TASK_DICTS):
        if key not in block:
            continue
        if not isinstance(block[key], Mapping):
            raise ArchitectureTypeError(f"`{path}.{key}` must be a dictionary, but got {block[key]!r}.")
        if f"{key}_cls" not in block[key]:
            raise ConfigurationError(f"`{path}.{key}.{key}_cls` must be specified.")


def block_path(architecture: Architecture | None, block_idx: int | None) -> str:
    """Where block `block_idx` stands in `architecture`, for error messages."""
    if isinstance(architecture, list) and block_idx is not None:
        return f"architecture[{block_idx}]"
    return "architecture"


def block_at(architecture: Architecture, block_idx: int | None) -> dict[str, Any]:
    """The dict of block `block_idx`: the dict itself, or the item of a list."""
    if isinstance(architecture, Mapping):
        return architecture
    if block_idx is None:
        raise invalid("architecture", architecture, "a dictionary where a module is built without an index")
    return architecture[block_idx]


def merged(stored: Architecture | None, override: object) -> object:
    """`override` laid over `stored`: dicts are merged key by key, anything else replaces."""
    if not isinstance(stored, Mapping) or not isinstance(override, Mapping):
        return copy.deepcopy(override)
    result = copy.deepcopy(dict(stored))
    for key, value in override.items():
        result[key] = merged(result.get(key), value)
    return result
