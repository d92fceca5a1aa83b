"""`convert inspect PATH`: what a checkpoint is."""

from collections import Counter
from math import prod
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import Debug, Json, Quiet, in_words, show, table

Where = Annotated[
    str, typer.Argument(help="A model folder, one file (safetensors, GGUF, llama2.c, ckpt.pt), or org/name on the Hub.")
]


def inspect(path: Where, json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Show the family, config, files and tensors of a checkpoint. Reads headers only."""
    from cli.hub.sources import headers_of

    with headers_of(path) as (found, name):
        content = _file(found) if found.suffix == ".safetensors" and found.is_file() else _folder(found)
    content["path"] = name
    show(_lines(content), content, as_json=json, quiet=quiet)


def _file(path: Path) -> dict[str, Any]:
    from converters.checkpoint.safetensors_header import read_header

    header = read_header(path)
    tensors = [_tensor(t.key, t.dtype, t.shape, path.name) for t in header.tensors]
    return {"path": str(path), "metadata": dict(header.metadata), **_totals(tensors), "tensors": tensors}


def _folder(path: Path) -> dict[str, Any]:
    from converters.checkpoint.json_files import read_json
    from converters.checkpoint.opening import open_checkpoint
    from converters.errors import Refused
    from converters.family import family_of
    from converters.provenance import NAME

    checkpoint = open_checkpoint(path, dequantize=True)  # nothing is, headers tell
    tensors = [_tensor(t.key, t.dtype, t.shape, t.file.name) for t in checkpoint.tensors.values()]
    try:
        family = family_of(checkpoint.config)
    except Refused:
        family = "unknown"
    record = read_json(path / NAME) if (path / NAME).is_file() else {}
    told = {name: record[name] for name in ("family", "to", "verdict", "version") if name in record}
    found = {"path": str(path), "family": family, "files": [f.name for f in checkpoint.files]}
    return {**found, **_totals(tensors), "conversion": told, "config": dict(checkpoint.config), "tensors": tensors}


def _tensor(key: str, dtype: str, shape: tuple[int, ...], file: str) -> dict[str, Any]:
    return {"key": key, "dtype": dtype, "shape": list(shape), "file": file}


def _totals(tensors: list[dict[str, Any]]) -> dict[str, Any]:
    from converters.checkpoint.safetensors_header import BITS

    dtypes = Counter(tensor["dtype"] for tensor in tensors)
    nbytes = sum(prod(t["shape"]) * BITS[t["dtype"]] // 8 for t in tensors)
    return {"parameters": sum(prod(t["shape"]) for t in tensors), "bytes": nbytes, "dtypes": dict(dtypes)}


def _lines(content: dict[str, Any]) -> list[str]:
    dtypes = ", ".join(f"{count} {name}" for name, count in content["dtypes"].items())
    lines = [f"{content['path']}: {content.get('family', 'one file')}"]
    size = f"{content['parameters']:,} parameters, {in_words(content['bytes'])}"
    lines.append(f"{size}, {len(content['tensors'])} tensors ({dtypes})")
    if content.get("conversion"):
        told = content["conversion"]
        lines.append(f"made from {told.get('family')} by version {told.get('version')}, verdict {told.get('verdict')}")
    rows = [("key", "dtype", "shape", "file")]
    rows += [(t["key"], t["dtype"], " x ".join(map(str, t["shape"])), t["file"]) for t in content["tensors"]]
    return [*lines, *table(rows)]
