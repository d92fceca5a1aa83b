"""Versions of the packages whose numbers a verdict depends on."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def installed_versions() -> dict[str, str]:
    """Distribution -> version, of this project and of the packages that compute."""
    found = {}
    for name in ("mixformer", "torch", "transformers", "safetensors", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


@cache
def code_digest() -> str:
    """SHA-256 of the code of this project that runs models: in a checkout it changes, and its version does not."""
    import mixformer

    digest = hashlib.sha256()
    for folder in (Path(__file__).parents[1], Path(mixformer.__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
