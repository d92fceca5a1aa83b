"""`conversion.json`: what an output was made from, which key became which, and the sha256 of every file."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from converters.card_marks import PICTURE
from converters.checkpoint.cache_folders import named_sha256, snapshot_of
from converters.checkpoint.casts import NAMES, header_dtype, step_record
from converters.checkpoint.checkpoint import Checkpoint, FileState
from converters.checkpoint.json_files import read_json
from converters.checkpoint.side_files import README, side_files
from converters.errors import ConversionError, UnsafeFile
from converters.plan.options import Options
from converters.plan.plan import Plan
from converters.version import __version__

NAME = "conversion.json"


def fingerprint(source: Checkpoint) -> dict[str, Any]:
    """A hash of a source that changes with its files, without reading weights: sizes, times, config and headers.

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


def request(plan: Plan, max_shard_size: int | None, *, native: bool = False, code: bool = False) -> dict[str, Any]:
    """The request: equal requests of equal versions give equal outputs."""
    return {
        "version": __version__,
        "family": plan.family,
        "to": plan.to,
        "source": fingerprint(plan.source),
        "options": {**asdict(plan.options), "waive": sorted(plan.options.waive), "drop": list(plan.options.drop)},
        "max_shard_size": max_shard_size,
        "format": "native" if native else "safetensors",
        "code": code,
    }


def record(
    asked: Mapping[str, Any], plan: Plan, files: Mapping[str, str | None], errors: Mapping[str, float]
) -> dict[str, Any]:
    """The content of conversion.json.

    files: name -> sha256, None where it was not hashed. errors: largest error of each tensor that was cast.
    """
    steps = [dict(step) for step in plan.source.lossy]
    steps += [{"step": "drop buffers", "keys": list(plan.dropped)}] if plan.dropped else []
    steps += [{"step": "drop tensors", "keys": list(plan.left_out)}] if plan.left_out else []
    if plan.cropped_from:
        steps.append({"step": "crop vocabulary", "rows": plan.options.crop_vocab, "of": plan.cropped_from})
    if any(tensor.cast_from for tensor in plan.tensors):
        steps.append(step_record(header_dtype(str(plan.options.dtype)), errors))
    keys = {tensor.key: list(tensor.sources) for tensor in plan.tensors}
    return {**asked, "lossy_steps": steps, "files": dict(sorted(files.items())), "keys": keys, "verdict": "UNVERIFIED"}


def read_record(folder: Path) -> dict[str, Any]:
    """A folder's conversion.json, empty where there is none. It may have been edited, so nothing in it is believed.

    Raises:
        UnsafeFile: it is no JSON object, or not what a conversion writes.
    """
    path = folder / NAME
    if not folder.is_dir() or not (path.exists() or path.is_symlink()):
        return {}
    found = read_json(path)
    if wrong := next(_wrong_fields(found), None):
        raise UnsafeFile(f"{path} is not what a conversion writes: {wrong}; remove it, or convert again")
    return found


def _wrong_fields(record: Mapping[str, Any]) -> Iterator[str]:
    steps, files = record.get("lossy_steps") or [], record.get("files") or {}
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        yield "lossy_steps is no list of objects"
        return
    for step in steps:
        errors = step.get("max_error", {})
        if not all(isinstance(step.get(name, ""), str) for name in ("step", "dtype")):
            yield "a lossy step has a name or a dtype that is no text"
        if not isinstance(errors, dict) or any(type(error) not in (int, float) for error in errors.values()):
            yield "max_error of a lossy step holds something else than numbers"
    if not isinstance(files, dict) or not all(_is_inside(name) for name in files):
        yield "files names something else than files of the folder"


def _is_inside(name: str) -> bool:
    """Whether a name is that of a file in a folder, or in one below it."""
    parts = name.split("/")
    return len(parts) <= 2 and "\0" not in name and not any(part in ("", ".", "..") for part in parts)


def _cast_of(record: Mapping[str, Any]) -> str | None:
    """The dtype that a record says the tensors were cast to, or None."""
    found = [step.get("dtype") for step in _steps(record, "cast")]
    return found[0] if found and found[0] in NAMES else None


def recorded_dequantisation(folder: Path) -> bool:
    """Whether a folder's conversion.json says that its tensors were quantised before."""
    return bool(_steps(read_record(folder), "dequantize"))


def _steps(record: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The lossy steps of that name in a record."""
    return [step for step in record.get("lossy_steps") or [] if step.get("step") == name]


def recorded_baking(folder: Path) -> bool:
    """Whether a folder's conversion.json says that parametrised matrices were baked.

    Raises:
        UnsafeFile: it cannot be read; see `read_record`.
    """
    return bool(_steps(read_record(folder), "bake"))


def recorded_options(folder: Path) -> Options:
    """What a folder's conversion.json says was asked of its conversion: the cast, waived fields, dropped buffers
    and tensors, and rows that were cut off.

    Raises:
        UnsafeFile: it cannot be read; see `read_record`.
    """
    record = read_record(folder)
    asked = record.get("options")
    found = asked if isinstance(asked, dict) else {}
    waived, dropped = (_texts(found.get(name)) for name in ("waive", "drop"))
    crop = [step.get("rows") for step in _steps(record, "crop vocabulary")]
    rows = crop[0] if crop and type(crop[0]) is int else None
    buffers = found.get("drop_buffers") is True
    return Options(waive=waived, drop_buffers=buffers, dtype=_cast_of(record), drop=dropped, crop_vocab=rows)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def up_to_date(folder: Path, asked: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The record of an output that answers the same request and still has all its files, or None."""
    try:
        found = read_record(folder)
    except ConversionError:
        return None
    files = found.get("files")
    if not isinstance(files, dict) or any(found.get(name) != value for name, value in asked.items()):
        return None
    return found if found.get("written") == written(folder, files) else None


def is_untouched(folder: Path) -> bool:
    """Whether a folder holds what a conversion wrote, and nothing was changed, added or taken away since."""
    try:
        found = read_record(folder)
    except ConversionError:
        return False
    files = found.get("files")
    if not isinstance(files, dict) or found.get("written") != written(folder, files):
        return False
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
    return there - {NAME, README, PICTURE} == files.keys()


def written(folder: Path, names: Iterable[str]) -> dict[str, list[int]]:
    """Size and time of modification of each existing file in a folder, by name."""
    found = {}
    for name in sorted(names):
        with suppress(OSError):
            stat = (folder / name).stat()
            found[name] = [stat.st_size, stat.st_mtime_ns]
    return found
