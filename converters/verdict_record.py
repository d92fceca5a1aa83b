"""The verdict in conversion.json: who may set it, what it was reached on, and whether it still stands.

Only a run of all levels against the recorded source sets the verdict. Other runs stand beside it. A FAIL of any run
takes a PASS away. The record guards against accidents: a file changed by mistake, another reference, an edited verdict.
It is no guard against the owner of the folder.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.card_marks import PICTURE
from converters.checkpoint.cache_folders import named_sha256, sha256_of
from converters.checkpoint.json_files import as_bytes
from converters.checkpoint.opening import open_checkpoint
from converters.engine.output_folder import replace_file
from converters.errors import ConversionError
from converters.paging import pager_of
from converters.provenance import NAME, fingerprint, read_record, written

LEVELS = frozenset({"L0", "L1", "L2", "L3", "L4"})  # of a run that may set the verdict
KEPT = 8  # runs beside the one that set the verdict
PASS, FAIL, UNVERIFIED = "PASS", "FAIL", "UNVERIFIED"
BESIDE = (NAME, "README.md", PICTURE)  # never judged: the record itself, the card of a repo and its picture


@dataclass(frozen=True)
class Run:
    """One run of the levels: its verdict as JSON, the names that were asked for, the device, and what it was against.

    reference: the folder or file of the reference. golden: the golden file that stood for it.
    """

    verdict: Mapping[str, Any]
    levels: Sequence[str]
    device: str
    reference: Path | None = None
    golden: Path | None = None


def record_run(folder: Path, run: Run, files: Mapping[str, str] | None = None) -> bool:
    """Writes a run into a folder's conversion.json; gives whether there was one that could be written.

    files: name -> sha256 of what the folder holds now, where that is no longer what the conversion wrote.
    """
    path = folder / NAME
    try:
        record = read_record(folder)
    except ConversionError:
        return False
    if not record:
        return False
    if files is not None:
        record = {**record, "files": dict(files), "written": written(folder, files)}
    with suppress(OSError):
        replace_file(path, as_bytes(with_run(folder, record, run)))
        return True
    return False


def with_run(folder: Path, record: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """The record after a run."""
    entry = _entry(folder, record, run)
    sets = entry["against"] == "source" and set(run.levels) >= LEVELS
    fails = entry["verdict"] == FAIL
    found = {name: value for name, value in record.items() if name != "checksum"}
    if sets or fails:
        found |= {"verdict": entry["verdict"], "parity": dict(run.verdict), "judged": entry}
    else:
        others = [old for old in _runs(record) if (old.get("against"), old.get("levels")) != _kind(entry)]
        found["judged_besides"] = [*others, entry][-KEPT:]
    return {**found, "checksum": checksum(found)}


def _kind(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    return entry["against"], entry["levels"]


def _runs(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    runs = record.get("judged_besides")
    return [run for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []


def _entry(folder: Path, record: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """What a run was: its verdict, the files that it judged and those that it judged them by, with sha256 of each."""
    against = "golden" if run.reference is None else "source" if _is_source(record, run.reference) else "reference"
    by = run.golden if run.reference is None else run.reference
    return {
        "verdict": str(run.verdict.get("verdict")),
        "levels": sorted(run.levels),
        "device": run.device,
        "against": against,
        "files": judged_hashes(folder, record),
        "reference": {} if by is None else _hashes_of(by),
    }


def _is_source(record: Mapping[str, Any], reference: Path) -> bool:
    """Whether a reference is the source that the conversion read, by its config and headers. L1 compares the rest."""
    try:
        found = fingerprint(open_checkpoint(reference, dequantize=True))
    except ConversionError:
        return False
    source = record.get("source")
    return isinstance(source, dict) and source.get("headers_sha256") == found["headers_sha256"]


def judged_hashes(folder: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """Sha256 of each recorded file of a folder as it is now; of a file untouched since it was written, as recorded."""
    files = record.get("files")
    known = {name: said for name, said in files.items() if name not in BESIDE} if isinstance(files, dict) else {}
    states, now = record.get("written"), written(folder, known)
    untouched = {name for name in now if isinstance(states, dict) and states.get(name) == now[name]}
    return {
        name: str(known[name]) if name in untouched and known[name] else sha256_of(folder / name)
        for name in sorted(now)
    }


def _hashes_of(path: Path) -> dict[str, str]:
    """Sha256 of a file, or of the weights and the config of a folder."""
    if path.is_file():
        return {path.name: sha256_of(path)}
    checkpoint = open_checkpoint(path)
    names: Iterable[Path] = {*checkpoint.stored, path / "config.json"}
    hashed = named_sha256 if pager_of(path) else sha256_of  # a stand-in is called by the hash that the Hub lists
    return {file.name: hashed(file) for file in sorted(names) if file.is_file()}


def checksum(record: Mapping[str, Any]) -> str:
    """Sha256 over everything in a record but its own checksum."""
    rest = {name: value for name, value in record.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def judged_files(folder: Path) -> dict[str, str]:
    """Name -> sha256 of what was judged when the verdict of a folder was set.

    Raises:
        ConversionError: there is no record.
    """
    judged = read_record(folder).get("judged")
    files = judged.get("files") if isinstance(judged, dict) else None
    found = files if isinstance(files, dict) else {}
    return {name: str(digest) for name, digest in found.items() if name not in BESIDE}


def obstacle(folder: Path) -> str | None:
    """Why the record of a folder does not vouch for the files that lie there now; None if it does."""
    try:
        record = read_record(folder)
    except ConversionError as error:
        return str(error)
    if not record:
        return f"{folder} has no {NAME}, so nothing says what it was made from or that it was judged"
    judged = record.get("judged")
    if record.get("verdict") != PASS or not isinstance(judged, dict):
        return f"the verdict in {folder / NAME} is {record.get('verdict', UNVERIFIED)}, not PASS"
    if record.get("checksum") != checksum(record):
        return f"{folder / NAME} was edited after the verdict was written"
    if judged.get("verdict") != PASS or judged.get("against") != "source":
        return f"{folder / NAME} holds a verdict that was not reached against the source of the conversion"
    return next(_changes(folder), None)


def _changes(folder: Path) -> Iterator[str]:
    """What lies in a folder and is not what was judged, a sentence each."""
    judged = judged_files(folder)
    if not judged:
        yield f"{folder / NAME} does not say which files were judged"
    listed = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    there = {path.relative_to(folder).as_posix() for path in listed} - {*BESIDE}
    for name in sorted(judged.keys() - there):
        yield f"{name} was judged and is gone"
    for name in sorted(there - judged.keys()):
        yield f"{name} was not there when the folder was judged"
    for name in sorted(there):
        if not (folder / name).is_file() or judged.get(name) != sha256_of(folder / name):
            yield f"{name} is not the file that was judged: its sha256 differs"
