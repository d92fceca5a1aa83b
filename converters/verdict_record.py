"""The verdict in conversion.json: who may set it, what it was reached on, and whether it still stands.

Only a run of all levels against the recorded source sets the verdict. Other runs stand beside it. A FAIL of any run
takes a PASS away. The record guards against accidents: a file changed by mistake, another reference, an edited verdict.
It is no guard against the owner of the folder.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.checkpoint.json_files import as_bytes
from converters.checkpoint.opening import open_checkpoint
from converters.checkpoint.regular_files import open_regular
from converters.engine.output_folder import replace_file
from converters.errors import ConversionError
from converters.provenance import NAME, fingerprint, read_record, written

LEVELS = frozenset({"L0", "L1", "L2", "L3", "L4"})  # of a run that may set the verdict
KEPT = 8  # runs beside the one that set the verdict
PASS, FAIL, UNVERIFIED = "PASS", "FAIL", "UNVERIFIED"


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


def record_run(folder: Path, run: Run) -> bool:
    """Writes a run into a folder's conversion.json; gives whether there was one that could be written."""
    path = folder / NAME
    try:
        record = read_record(folder)
    except ConversionError:
        return False
    if not record:
        return False
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
    """Whether a reference is the source that the conversion read, by its headers, sizes and times."""
    try:
        found = fingerprint(open_checkpoint(reference))
    except ConversionError:
        return False
    source = record.get("source")
    said = {name: source.get(name) for name in ("files", "headers_sha256")} if isinstance(source, dict) else None
    return said == {name: json.loads(json.dumps(found[name])) for name in ("files", "headers_sha256")}


def judged_hashes(folder: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """Sha256 of each recorded file of a folder as it is now; of a file untouched since it was written, as recorded."""
    files = record.get("files")
    known = files if isinstance(files, dict) else {}
    states, now = record.get("written"), written(folder, known)
    untouched = {name for name in now if isinstance(states, dict) and states.get(name) == now[name]}
    return {
        name: str(known[name]) if name in untouched and known[name] else file_hash(folder / name)
        for name in sorted(now)
    }


def _hashes_of(path: Path) -> dict[str, str]:
    """Sha256 of a file, or of the weights and the config of a folder."""
    if path.is_file():
        return {path.name: file_hash(path)}
    checkpoint = open_checkpoint(path)
    names: Iterable[Path] = {*checkpoint.stored, path / "config.json"}
    return {file.name: file_hash(file) for file in sorted(names) if file.is_file()}


def file_hash(path: Path) -> str:
    """Sha256 of a file in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(record: Mapping[str, Any]) -> str:
    """Sha256 over everything in a record but its own checksum."""
    rest = {name: value for name, value in record.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def obstacle(folder: Path) -> str | None:
    """Why the record of a folder does not vouch for the files that lie there now; None if it does."""
    try:
        record = read_record(folder)
    except ConversionError as error:
        return str(error)
    judged = record.get("judged")
    if record.get("verdict") != PASS or not isinstance(judged, dict):
        return f"{folder / NAME} says {record.get('verdict', UNVERIFIED)}, not PASS"
    if record.get("checksum") != checksum(record):
        return f"{folder / NAME} was edited after the verdict was written"
    if judged.get("verdict") != PASS or judged.get("against") != "source":
        return f"{folder / NAME} holds a verdict that was not reached against the source of the conversion"
    return _changed(folder, judged.get("files"))


def _changed(folder: Path, judged: Any) -> str | None:
    """What lies in a folder and is not what was judged, in a sentence."""
    if not isinstance(judged, dict) or not judged:
        return f"{folder / NAME} does not say which files were judged"
    for name, expected in judged.items():
        path = folder / name
        if not path.is_file():
            return f"{name} was judged, and is gone"
        if file_hash(path) != expected:
            return f"{name} is not what was judged: its sha256 differs"
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    added = sorted(there - judged.keys() - {NAME, "README.md"})
    return f"{added[0]} lies there and was not judged" if added else None
