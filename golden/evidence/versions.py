"""Versions of the packages whose numbers a verdict depends on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_versions() -> dict[str, str]:
    """Distribution -> version, of this project and of the packages that compute."""
    found = {}
    for name in ("mixformer", "torch", "transformers", "safetensors", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
