"""JSON files of a checkpoint: of limited size, UTF-8, objects with unique keys."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.checkpoint.json_text import parse_json
from converters.checkpoint.regular_files import read_regular
from converters.errors import UnsafeFile

LARGEST_JSON = 24_000_000  # bytes


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UnsafeFile: no regular file, unreadable, larger than 24 MB, or not an object with unique keys.
    """
    try:
        text = read_regular(path, LARGEST_JSON)
    except OSError as error:
        raise UnsafeFile(f"{path} cannot be read: {error.strerror}") from None
    try:
        return parse_json(text)
    except UnsafeFile as error:
        raise UnsafeFile(f"{path} cannot be used: {error}") from None


def as_bytes(content: Mapping[str, Any]) -> bytes:
    """JSON text as it is written to files: readable, deterministic."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
