"""Sha256 of the files that a verdict is about, so that a report says which bytes were judged."""

from pathlib import Path


def hashes_of(candidate: Path, reference: Path | None, golden: Path | None = None) -> dict[str, dict[str, str]]:
    """Name -> sha256 of weights and config of each side; of a golden file also those that it was recorded from."""
    found = {"candidate": _files(candidate)}
    if reference is not None:
        found["reference"] = _files(reference)
    if golden is not None:
        from converters.checkpoint.cache_folders import sha256_of
        from golden.evidence.golden_header import read_golden_header

        found["golden file"] = {golden.name: sha256_of(golden)}
        found.setdefault("reference", dict(read_golden_header(golden)["hashes"]))
    return {side: files for side, files in found.items() if files}


def _files(path: Path) -> dict[str, str]:
    """Those of one model. Files that a conversion hashed and nobody touched since are not read again."""
    from converters.checkpoint.cache_folders import sha256_of
    from converters.checkpoint.opening import open_checkpoint
    from converters.errors import ConversionError
    from converters.provenance import read_record
    from converters.verdict_record import judged_hashes

    if path.is_file():
        return {path.name: sha256_of(path)}
    try:
        if record := read_record(path):
            return judged_hashes(path, record)
        names = {*open_checkpoint(path).stored, path / "config.json"}
    except ConversionError:  # a folder that could be judged and is no checkpoint of ours
        names = {*path.glob("*.safetensors"), path / "config.json"}
    return {file.name: sha256_of(file) for file in sorted(names) if file.is_file()}
