"""Versions of everything whose numerics a verdict rests on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_versions() -> dict[str, str]:
    """Distribution -> version, of our own and of those that compute."""
    found = {}
    for name in ("mixformer", "torch", "transformers", "safetensors", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
