"""`convert inspect PATH`: what a checkpoint is."""

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import All, Debug, Json, NHead, Quiet, ValueResidual, in_words, show
from cli.terminal.folding import folded, natural
from cli.terminal.layout import columns, table
from converters.counts import counted

Where = Annotated[
    str,
    typer.Argument(
        metavar="PATH", help="A model folder, one file (safetensors, GGUF, llama2.c, .pt), or org/name on the Hub."
    ),
]
Norms = Annotated[bool, typer.Option("--norms", help="Measure how far rows along the width are from length 1.")]


def inspect(
    path: Where,
    norms: Norms = False,
    n_head: NHead = None,
    value_residual: ValueResidual = None,
    all: All = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show the family, config, files and tensors of a checkpoint. Reads headers only, weights where asked for norms."""
    from cli.hub.sources import folder_of, headers_of
    from converters.checkpoint.users_word import HEADS, VALUES

    opened = nullcontext((folder_of(path), path)) if norms else headers_of(path)  # norms need the weights
    with HEADS.said(n_head), VALUES.said(value_residual), opened as (found, name):
        alone = found.suffix == ".safetensors" and found.is_file() and not norms
        content = _file(found) if alone else _folder(found, norms=norms)
    content["path"] = name
    show(_lines(content, every=all), content, as_json=json, quiet=quiet)


def _file(path: Path) -> dict[str, Any]:
    from converters.checkpoint.safetensors_header import read_header

    header = read_header(path)
    tensors = [_tensor(t.key, t.dtype, t.shape, path.name) for t in header.tensors]
    return {"path": str(path), "metadata": dict(header.metadata), **_totals(tensors), "tensors": tensors}


def _folder(path: Path, *, norms: bool) -> dict[str, Any]:
    from converters.checkpoint.opening import open_checkpoint
    from converters.errors import Refused
    from converters.family import OURS
    from converters.family_of import family_of
    from converters.norms import measure
    from converters.provenance import read_record

    checkpoint = open_checkpoint(path, dequantize=True)  # only headers are read
    ours = checkpoint.generation  # of a MixFormer, whose keys may be those of another generation
    stored = [(t.name if ours else t.key, t) for t in checkpoint.tensors.values()]
    tensors = [_tensor(key, t.dtype, t.shape, t.file.name) for key, t in stored]
    try:
        family = family_of(checkpoint.config)
    except Refused:
        family = "unknown"
    record = read_record(path)
    told = {name: record[name] for name in ("family", "to", "verdict", "version") if name in record}
    found = {"path": str(path), "family": family, "files": [f.name for f in checkpoint.files]}
    found |= {"generation": ours} if ours else {}
    measured = {"norms": [asdict(one) for one in measure(checkpoint)]} if norms else {}
    code = _code(path, checkpoint.config) if family == OURS else {}
    about = {**found, **_totals(tensors), "conversion": told, **code, "config": dict(checkpoint.config)}
    return {**about, "tensors": tensors, **measured}


def _code(path: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """What the code in the folder of a MixFormer is, in words. It is compared, and never run."""
    from converters.remote_code.exported import AUTO_MAP, FILES, foreign_code

    if path.is_dir() and not any((path / name).is_file() for name in FILES):
        return {"code": "none beside it" if config.get(AUTO_MAP) else "none"}
    return {"code": foreign_code(path, config) or "as this version writes it"}


def _tensor(key: str, dtype: str, shape: tuple[int, ...], file: str) -> dict[str, Any]:
    return {"key": key, "dtype": dtype, "shape": list(shape), "file": file}


def _totals(tensors: list[dict[str, Any]]) -> dict[str, Any]:
    from converters.checkpoint.safetensors_header import BITS

    dtypes = Counter(tensor["dtype"] for tensor in tensors)
    nbytes = sum(prod(t["shape"]) * BITS[t["dtype"]] // 8 for t in tensors)
    return {"parameters": sum(prod(t["shape"]) for t in tensors), "bytes": nbytes, "dtypes": dict(dtypes)}


def _lines(content: dict[str, Any], *, every: bool) -> list[str]:
    dtypes = ", ".join(f"{count} {name}" for name, count in content["dtypes"].items())
    lines = [f"{content['path']}: {content.get('family', 'one file')}"]
    if content.get("generation"):
        from converters.generations.configs import WORDS

        lines.append(f"config.json is that of {WORDS[content['generation']]}")
    size = f"{content['parameters']:,} parameters, {in_words(content['bytes'])}"
    lines.append(f"{size}, {counted(len(content['tensors']), 'tensor')} ({dtypes})")
    if content.get("conversion"):
        told = content["conversion"]
        lines.append(f"made from {told.get('family')} by version {told.get('version')}, verdict {told.get('verdict')}")
    if content.get("code", "none") != "none":
        lines.append(f"code to load it without this package: {content['code']}")
    rows = _every_row(content["tensors"]) if every else _folded_rows(content["tensors"])
    return [*lines, *rows, *_norm_lines(content.get("norms"))]


def _every_row(tensors: list[dict[str, Any]]) -> list[str]:
    rows = [("key", "dtype", "shape", "file")]
    for t in sorted(tensors, key=lambda t: natural(t["key"])):
        rows.append((t["key"], t["dtype"], " x ".join(map(str, t["shape"])), t["file"]))
    return table(rows, columns())


def _folded_rows(tensors: list[dict[str, Any]]) -> list[str]:
    """Tensors of equal layers in one row; the files that they lie in are told once."""
    folds = folded((t["key"], (t["dtype"], tuple(t["shape"]))) for t in tensors)
    rows = [("key", "dtype", "shape", "layers")]
    for fold in folds:
        t = tensors[fold.first]
        layers = f"x {fold.count}" if fold.count > 1 else ""
        rows.append((fold.key, t["dtype"], " x ".join(map(str, t["shape"])), layers))
    files = sorted({t["file"] for t in tensors})
    told = files if len(files) < 4 else [files[0], "...", files[-1]]
    named = [f"{counted(len(files), 'file')}: {', '.join(told)}"] if files else []
    more = ["every row: --all"] if any(fold.count > 1 for fold in folds) else []
    return [*named, *table(rows, columns()), *more]


def _norm_lines(norms: list[dict[str, Any]] | None) -> list[str]:
    """A table of lengths, and the one that is furthest from 1."""
    if norms is None:
        return []
    if not norms:
        return ["no matrix has an axis of the model's width"]
    rows = [["lengths along the width of", "how many", "shortest", "longest", "furthest from 1"]]
    for n in norms:
        rows.append([f"{n['axis']} of {n['key']}", str(n["count"]), *(_number(n[k]) for k in ("least", "most", "off"))])
    lines = ["", *table(rows, columns())]
    lines += [f"{n['key']}: {n['nonfinite']} lengths are NaN or infinite" for n in norms if n["nonfinite"]]
    worst = max((n for n in norms if n["off"] is not None), key=lambda n: float(n["off"]), default=None)
    return [*lines, f"furthest from length 1: {_number(worst['off'])}, in {worst['key']}"] if worst else lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
