"""The HTTP library of the installed `huggingface_hub`: httpx2 since 2.0, httpx before. Both name things alike."""

from importlib import import_module
from typing import Any


def http() -> Any:
    """Its module."""
    import huggingface_hub

    return import_module("httpx" if huggingface_hub.__version__.startswith("1.") else "httpx2")
