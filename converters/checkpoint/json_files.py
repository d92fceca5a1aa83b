"""JSON files of a checkpoint: of limited size, UTF-8, objects with unique keys."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.checkpoint.safetensors_header import parse_json
from converters.errors import UnsafeFile

LARGEST_JSON = 100_000_000  # bytes


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UnsafeFile: unreadable, larger than 100 MB, or not an object with unique keys.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise UnsafeFile(f"it is larger than {LARGEST_JSON} bytes")
        return parse_json(path.read_bytes())
    except OSError as error:
        raise UnsafeFile(f"{path} cannot be read: {error.strerror}") from None
    except UnsafeFile as error:
        raise UnsafeFile(f"{path} cannot be used: {error}") from None


def as_bytes(content: Mapping[str, Any]) -> bytes:
    """JSON text as it is written to files: readable, deterministic."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
