"""Dotted paths into nested objects."""

from collections.abc import Mapping
from typing import Any


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted paths as nested objects: `architecture.mixer.bias` -> {"architecture": {"mixer": {"bias": ...}}}."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return nested
