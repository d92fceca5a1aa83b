"""`--judge-again`: parity now, so that nothing which the folder says of itself is taken on trust."""

from pathlib import Path
from typing import Any

from cli.hub.errors import UnverifiedError
from cli.hub.outgoing import is_allowed
from cli.hub.sources import folder_of
from cli.parity import judged
from converters.checkpoint.cache_folders import sha256_of
from converters.checkpoint.json_files import read_json
from converters.checkpoint.opening import open_checkpoint
from converters.errors import UsageError
from converters.provenance import NAME, fingerprint
from converters.verdict_record import Run, record_run


def judge_again(folder: Path, reference: str | None, *, device: str, quiet: bool) -> str:
    """Judges a folder against the source that its record names and writes the verdict there; gives it.

    reference: the source, where the record names no repo.

    Raises:
        UsageError: the record names no repo and no reference is given.
        UnverifiedError: the reference is not the source that the record names.
        ConversionError, GoldenError: one of the two cannot be read.
    """
    record = read_json(folder / NAME)
    theirs = folder_of(_named(record, reference), quiet=quiet)
    known: Any = record.get("source") or {}
    found = fingerprint(open_checkpoint(theirs, dequantize=True))
    if found["headers_sha256"] != known.get("headers_sha256"):
        raise UnverifiedError(f"{theirs} is not the source that {folder / NAME} names: its config or headers differ")
    before = _hashes(folder)
    verdict = judged(folder, theirs, device=device, quiet=quiet)
    if _hashes(folder) != before:
        raise UnverifiedError(f"{folder} changed while it was judged; nothing was pushed")
    record_run(folder, Run(verdict.to_json(), verdict.asked, device, theirs), before)
    return str(verdict.verdict)


def _named(record: dict[str, Any], reference: str | None) -> str:
    source = record.get("source") or {}
    if reference:
        return reference
    if source.get("repo"):
        return f"hf://{source['repo']}@{source['commit']}"
    raise UsageError(
        f"the record names a folder {source.get('name')!r} as the source; say where it is: --reference DIR"
    )


def _hashes(folder: Path) -> dict[str, str]:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {name: sha256_of(folder / name) for name in names if is_allowed(name)}
