"""Strict JSON from files that nobody vouches for: bounded in memory, depth and digits; keys are unique.

A large object, such as the header of a weight file, is read member by member, so that a broken one costs no more than
what came before its first fault.
"""

import codecs
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from converters.errors import UnsafeFile

MOST_MEMORY = 64_000_000  # bytes that reading a whole text may take
PER_VALUE = 256  # bytes; no list, object or key takes more, whatever is in it
DEEPEST = 64  # lists and objects inside one another
MOST_DIGITS = 40  # of an integer; sizes have twenty at most
LONGEST_MEMBER = 1 << 20  # characters of a key or a value of an object that is read member by member
PIECE = 1 << 18  # bytes
BLANKS = " \t\n\r"


def parse_json(text: bytes, *, nonfinite: bool = False) -> dict[str, Any]:
    """A JSON object without duplicate keys.

    nonfinite: NaN and Infinity, which JSON does not have and Python writes, are allowed.

    Raises:
        UnsafeFile: not UTF-8, not JSON, not an object, a key appears twice, or it would take too much memory.
    """
    values = sum(text.count(mark) for mark in (b"{", b"[", b","))
    if len(text) * (2 if text.isascii() else 5) + values * PER_VALUE > MOST_MEMORY:
        raise UnsafeFile(
            f"its JSON has {len(text)} bytes and about {values} values, which is more than any config or index needs"
        )
    try:
        found = (PYTHONS if nonfinite else STRICT).decode(text.decode("utf-8"))
        if b"\\ud" in text or b"\\uD" in text:
            _check_characters(found)
    except (ValueError, RecursionError) as error:
        raise UnsafeFile(f"its JSON cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise UnsafeFile("its JSON is not an object")
    _check_depth(found)
    return found


def members(file: BinaryIO, length: int) -> Iterator[tuple[str, Any]]:
    """Key and value of each member of a JSON object that is the next `length` bytes of a file; keys may repeat.

    Raises:
        UnsafeFile: not UTF-8, not JSON, not an object, or a member is longer than any honest one.
    """
    text = _Text(file, length)
    try:
        text.mark("{", "its JSON is not an object")
        if text.next() == "}":
            text.mark("}", "")
        else:
            yield from _members(text)
        if text.next():
            raise ValueError("something follows the object")
    except (ValueError, RecursionError) as error:
        raise UnsafeFile(f"its JSON cannot be read ({error})") from None


def _members(text: "_Text") -> Iterator[tuple[str, Any]]:
    mark = ","
    while mark == ",":
        if text.next() != '"':
            raise ValueError("expected a key in quotation marks")
        key = text.value()
        text.mark(":", "expected ':' after a key")
        yield key, text.value()
        mark = text.mark(",}", "expected ',' or '}' after a value")


class _Text:
    """Text of a file from its present place on, decoded as it is needed."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file, self._left = file, length
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at = "", 0

    def next(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in BLANKS:
                    return self._text[self._at]
                self._at += 1
            if not self._left:
                return ""
            self._more()

    def mark(self, expected: str, otherwise: str) -> str:
        """Passes over one of some characters."""
        found = self.next()
        if not found or found not in expected:
            raise UnsafeFile(otherwise) if expected == "{" else ValueError(otherwise)
        self._at += 1
        return found

    def value(self) -> Any:
        """The next value, whatever it is; a key is a string."""
        self.next()
        while self._left and len(self._text) - self._at <= LONGEST_MEMBER:
            self._more()
        found, end = STRICT.raw_decode(self._text, self._at)
        if end - self._at > LONGEST_MEMBER:
            raise ValueError(f"a member has more than {LONGEST_MEMBER} characters")
        if "\\ud" in self._text[self._at : end].lower():
            _check_characters(found)
        self._at = end
        _check_depth(found)
        return found

    def _more(self) -> None:
        data = self._file.read(min(PIECE, self._left))
        if not data:
            raise ValueError("it ends early")
        self._left -= len(data)
        self._text = self._text[self._at :] + self._decoder.decode(data, final=not self._left)
        self._at = 0


def _check_depth(found: Any) -> None:
    """Raises UnsafeFile where lists and objects lie deeper in one another than any reader of ours follows them."""
    level: list[Any] = [found]
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in _inside(value) if isinstance(inner, dict | list)]
        if not level:
            return
    raise UnsafeFile(f"its JSON cannot be read (it is nested more than {DEEPEST} times)")


def _inside(value: Any) -> Iterator[Any]:
    yield from value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _check_characters(found: Any) -> None:
    """Raises ValueError for halves of characters, which escapes can spell and no file can hold."""
    json.dumps(found, ensure_ascii=False).encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise UnsafeFile(f"the key {twice!r} appears twice")
    return found


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"an integer has {len(text)} digits, at most {MOST_DIGITS} are allowed")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise UnsafeFile(f"the number {text[:40]} is too large")
    return number


def _no_constant(name: str) -> None:
    raise UnsafeFile(f"{name} is not JSON")


STRICT = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
)
PYTHONS = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer)
