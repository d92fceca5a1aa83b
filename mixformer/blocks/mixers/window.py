"""The forms in which a configuration may give a window."""

from __future__ import annotations

import ast

from mixformer.errors import invalid
from mixformer.visibility import NO_WINDOW, Window

EXPECTED = "None, a whole number, a pair (left, right) or such a pair as a string, each number >= -1"


def parse_window(window: object, path: str) -> Window:
    """(left, right), inclusive, -1 for no limit: a query sees `left` keys before itself and `right` after.

    Args:
        window: None, `w` for (w, 0), a pair, or the string of one, "(2047, 0)", which the SDK's YAML files hold. The
            string is read as a literal; nothing in it is ever executed.
        path: Where it stands, for the error.

    Raises:
        ConfigurationError: for anything else.
    """
    found = _literal(window) if isinstance(window, str) else window
    if found is None:
        return NO_WINDOW
    if _is_side(found):
        return (found, 0)
    if isinstance(found, tuple | list) and len(found) == 2 and all(_is_side(side) for side in found):
        return (found[0], found[1])
    raise invalid(path, window, EXPECTED)


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= -1
