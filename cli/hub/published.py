"""`conversion.json` as it is published: what was made from what, and how it was judged.

It holds no path, user, host, inode or time, so equal conversions give equal bytes.

Keys are listed, not struck out: what is written there one day is not published before somebody has thought about it.
"""

from collections.abc import Mapping
from typing import Any

from converters.checkpoint.json_files import as_bytes

REQUEST = ("version", "family", "to", "source", "options", "max_shard_size", "format", "code")
KEYS = (*REQUEST, "lossy_steps", "files", "keys", "streamed")
LEVEL = ("name", "title", "status", "number", "budget", "required")
SOURCE = ("name", "repo", "commit", "headers_sha256")


def published(record: Mapping[str, Any]) -> bytes:
    """The record for others to read."""
    found = {key: record[key] for key in KEYS if key in record}
    if isinstance(found.get("source"), Mapping):
        found["source"] = _source(found["source"])
    found["verdict"] = record.get("verdict", "UNVERIFIED")
    if isinstance(record.get("parity"), Mapping):
        found["parity"] = _parity(record["parity"])
    return as_bytes(found)


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    """Who the source is: for a folder sizes are left of what tells one state from another."""
    files = source.get("files")
    kept = {name: _known(value) for name, value in files.items()} if isinstance(files, Mapping) else {}
    return {**{key: source[key] for key in SOURCE if key in source}, "files": kept}


def _known(state: Any) -> Any:
    return state[0] if isinstance(state, list) and state else state


def _parity(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """The levels with their numbers; the sentences beside them may name folders."""
    levels = [{key: level.get(key) for key in LEVEL} for level in verdict.get("levels", ())]
    return {"levels": levels, "versions": verdict.get("versions", {})}
