"""`conversion.json`: where an output came from, which key became which, and the sha256 of every file."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from converters.checkpoint.cache_folders import named_sha256, snapshot_of
from converters.checkpoint.casts import NAMES, header_dtype, step_record
from converters.checkpoint.checkpoint import Checkpoint, FileState
from converters.checkpoint.json_files import as_bytes, read_json
from converters.checkpoint.side_files import side_files
from converters.engine.output_folder import replace_file
from converters.errors import ConversionError
from converters.plan.options import Options
from converters.plan.plan import Plan
from converters.version import __version__

NAME = "conversion.json"


def fingerprint(source: Checkpoint) -> dict[str, Any]:
    """What tells one state of a source from another without reading its weights: sizes, times, config and headers.

    A source from the Hub is known by its repo, commit and the sha256 of its files, wherever the cache keeps them.
    """
    digest = hashlib.sha256(json.dumps(source.config, sort_keys=True).encode())
    for key, tensor in source.tensors.items():
        digest.update(f"{key} {tensor.dtype} {tensor.shape} {tensor.shard} {tensor.begin}\n".encode())
    beside = side_files(source.folder, home=False).values()
    if snapshot := snapshot_of(source.folder):
        hashed = {path.name: named_sha256(path) for path in (*source.stored, *beside)}
        about = {"name": snapshot.name, "repo": snapshot.repo, "commit": snapshot.commit}
        return {**about, "files": hashed, "headers_sha256": digest.hexdigest()}
    files = {path.name: list(FileState.of(path)) for path in (*source.stored, *beside)}
    name = os.fsencode(source.folder.resolve().name).decode(errors="replace")
    return {"name": name, "files": files, "headers_sha256": digest.hexdigest()}


def request(plan: Plan, max_shard_size: int | None, *, native: bool = False) -> dict[str, Any]:
    """What was asked for: equal requests of equal versions give equal outputs."""
    return {
        "version": __version__,
        "family": plan.family,
        "to": plan.to,
        "source": fingerprint(plan.source),
        "options": {**asdict(plan.options), "waive": sorted(plan.options.waive)},
        "max_shard_size": max_shard_size,
        "format": "native" if native else "safetensors",
    }


def record(
    asked: Mapping[str, Any], plan: Plan, files: Mapping[str, str | None], errors: Mapping[str, float]
) -> dict[str, Any]:
    """The content of conversion.json.

    files: name -> sha256, None where it was not hashed. errors: largest error of each tensor that was cast.
    """
    steps = [dict(step) for step in plan.source.lossy]
    steps += [{"step": "drop buffers", "keys": list(plan.dropped)}] if plan.dropped else []
    if any(tensor.cast_from for tensor in plan.tensors):
        steps.append(step_record(header_dtype(str(plan.options.dtype)), errors))
    keys = {tensor.key: list(tensor.sources) for tensor in plan.tensors}
    return {**asked, "lossy_steps": steps, "files": dict(sorted(files.items())), "keys": keys, "verdict": "UNVERIFIED"}


def recorded_cast(folder: Path) -> str | None:
    """The dtype that a folder's conversion.json says its tensors were cast to, or None."""
    found = [step.get("dtype") for step in _recorded(folder, "cast")]
    return found[0] if found and found[0] in NAMES else None


def recorded_dequantisation(folder: Path) -> bool:
    """Whether a folder's conversion.json says that its tensors were quantised before."""
    return bool(_recorded(folder, "dequantize"))


def _recorded(folder: Path, name: str) -> list[dict[str, Any]]:
    """The lossy steps of that name in a folder's conversion.json; none where there is none to read."""
    try:
        steps = read_json(folder / NAME).get("lossy_steps")
    except ConversionError:
        return []
    return [s for s in steps if isinstance(s, dict) and s.get("step") == name] if isinstance(steps, list) else []


def recorded_options(folder: Path) -> Options:
    """What a folder's conversion.json says was asked of its conversion: the cast, waived fields, dropped buffers."""
    try:
        asked = read_json(folder / NAME).get("options")
    except ConversionError:
        asked = None
    found = asked if isinstance(asked, dict) else {}
    waived = found.get("waive")
    names = tuple(name for name in waived if isinstance(name, str)) if isinstance(waived, list) else ()
    return Options(waive=names, drop_buffers=found.get("drop_buffers") is True, dtype=recorded_cast(folder))


def up_to_date(folder: Path, asked: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The record of an output that answers the same request and still has all its files, or None."""
    try:
        found = read_json(folder / NAME)
    except ConversionError:
        return None
    files = found.get("files")
    if not isinstance(files, dict) or any(found.get(name) != value for name, value in asked.items()):
        return None
    return found if found.get("written") == written(folder, files) else None


def written(folder: Path, names: Iterable[str]) -> dict[str, list[int]]:
    """Size and time of modification of each file in a folder, by name; of those that are there."""
    found = {}
    for name in sorted(names):
        with suppress(OSError):
            stat = (folder / name).stat()
            found[name] = [stat.st_size, stat.st_mtime_ns]
    return found


def set_verdict(folder: Path, verdict: Mapping[str, Any]) -> None:
    """Puts a verdict into a folder's conversion.json, if it has one."""
    path = folder / NAME
    if path.is_file():
        replace_file(path, as_bytes({**read_json(path), **verdict}))
