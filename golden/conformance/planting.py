"""One table in place of all families, to see what a wrong one does."""

import pytest

from converters import family as registry
from converters.family import Family


def plant_family(patch: pytest.MonkeyPatch, table: Family) -> None:
    """Lets every conversion know this family alone, until the patch is undone."""
    patch.setattr(registry, "_built_in", lambda name: table if name == table.name else None)
    patch.setattr(registry, "_found", lambda: {table.name: table})
    patch.setattr(registry, "_plugins", dict)
