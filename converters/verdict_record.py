"""Whether what `conversion.json` says of a folder unlocks a push: a PASS, for exactly the files that lie there now.

It guards against accidents. Whoever owns the folder can write what they like into it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converters.checkpoint.cache_folders import sha256_of
from converters.checkpoint.json_files import read_json
from converters.errors import ConversionError
from converters.provenance import NAME, written

BESIDE = (NAME, "README.md")  # never judged: the record itself, and the card


def obstacle(folder: Path) -> str | None:
    """Why the folder's record does not unlock a push; None if it does."""
    try:
        found = read_json(folder / NAME)
    except ConversionError:
        return f"{folder} has no {NAME}, so nothing says what it was made from or that it was judged"
    if found.get("verdict") != "PASS":
        return f"the verdict in {folder / NAME} is {found.get('verdict')}, not PASS"
    if not isinstance(found.get("files"), dict):
        return f"{folder / NAME} does not list the files that were judged"
    return next(_changes(folder, found), None)


def _changes(folder: Path, found: Mapping[str, Any]) -> Iterator[str]:
    there = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()} - {*BESIDE}
    judged = judged_files(folder)
    for name in sorted(set(judged) - there):
        yield f"{name} was judged and is gone"
    for name in sorted(there - set(found["files"])):
        yield f"{name} was not there when the folder was judged"
    for name in sorted(there):
        if not (folder / name).is_file() or judged.get(name) != sha256_of(folder / name):
            yield f"{name} is not the file that was judged: its sha256 differs"


def judged_files(folder: Path) -> dict[str, str]:
    """Name -> sha256 of what was judged.

    Files that were not hashed when they were written (`--no-hash`) are hashed now, if size and time of modification are
    still those of the conversion.

    Raises:
        ConversionError: there is no record.
    """
    found = read_json(folder / NAME)
    names = {name: digest for name, digest in found["files"].items() if name not in BESIDE}
    unchanged = found.get("written") == written(folder, found["files"])
    hashed = {name: digest for name, digest in names.items() if digest}
    late = [name for name, digest in names.items() if not digest and (folder / name).is_file()] if unchanged else []
    return hashed | {name: sha256_of(folder / name) for name in late}
