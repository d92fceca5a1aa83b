"""Checkpoint conversions that only move elements: planned from headers, proved lossless, written at disk speed.

from converters import convert, make_plan, list_families
"""

from typing import TYPE_CHECKING, Any

from converters.version import __version__

if TYPE_CHECKING:
    from converters.conversion import ConversionReport, Request, convert
    from converters.family import Family, list_families
    from converters.plan.plan import Plan, make_plan

_HOMES = {
    "ConversionReport": "conversion",
    "Family": "family",
    "Plan": "plan.plan",
    "Request": "conversion",
    "convert": "conversion",
    "list_families": "family",
    "make_plan": "plan.plan",
}

__all__ = ["ConversionReport", "Family", "Plan", "Request", "__version__", "convert", "list_families", "make_plan"]


def __getattr__(name: str) -> Any:
    """Loads public names when they are first asked for, so that the command line starts at once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
