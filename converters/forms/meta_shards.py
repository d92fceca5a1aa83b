"""Reading a LLaMA as Meta releases it: `params.json` and one `consolidated.NN.pth` for each model-parallel rank.

Every rank has the same keys. Its parts of a tensor are told apart by a prefix: those of rank 0 keep their names, those
of rank 1 are called `01.layers.0...`, and so on. Along which axis parts belong together is known by their family; only
the embedding was cut along its columns in LLaMA 1 and 2 and along its rows in LLaMA 3, which its shape tells.
Source: `model.py` of Meta's `llama` and `llama3` repositories.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.checkpoint.checkpoint import Checkpoint, FileState, StoredTensor
from converters.checkpoint.file_forms import Form
from converters.checkpoint.json_files import read_json
from converters.checkpoint.opening import readable, tensors_of
from converters.errors import ConfigRefused, CoverageRefused, ShapeMismatch, UnsafeFile, nearest
from converters.families.shared.meta_rules import MOST_RANKS, prefix

PARAMS = "params.json"
EMBEDDING, HEAD, QUERIES = "tok_embeddings.weight", "output.weight", "layers.0.attention.wq.weight"

OWN = {"model_type", "tie_word_embeddings", "model_parallel", "vocab_parallel"}  # what reading adds to params.json

Rank = Mapping[str, StoredTensor]


def recognises(path: Path) -> bool:
    """Whether a file is a params.json beside shards, or a shard beside a params.json."""
    if path.suffix == ".pth":
        return (path.parent / PARAMS).is_file()
    return path.name == PARAMS and any(path.parent.glob("*.pth"))


def read(path: Path, dequantize: bool) -> Checkpoint:
    """Opens the folder of a params.json or of a shard.

    Raises:
        ConfigRefused: params.json is no JSON object, or lacks a size.
        UnsafeFile, CoverageRefused, ShapeMismatch: shards are broken, missing, or of unequal degree.
    """
    folder = path.parent
    params, stored = _params(folder / PARAMS), shard_files(folder)
    files = tuple(readable(file) for file in stored)
    ranks = [{tensor.key: tensor for tensor in tensors_of(file, k)} for k, file in enumerate(files)]
    _check_alike(stored, ranks)
    config = {**params, "model_type": "llama-meta", **_found(params, ranks)}
    named = [replace(t, key=prefix(k) + t.key, name=prefix(k) + t.key) for k, r in enumerate(ranks) for t in r.values()]
    states = tuple(FileState.of(file) for file in files)
    tensors = {tensor.key: tensor for tensor in named}
    return Checkpoint(folder, config, tensors, files, stored, _notes(params), states, said_by=PARAMS)


def _notes(params: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes on what params.json does not say and the user should check."""
    if params.get("use_scaled_rope") is not True or params.get("rope_scaling_factor") is not None:
        return ()
    return (
        "params.json scales the rotary embedding without a factor: 8 is taken, as in Meta's code and LLaMA 3.1."
        ' LLaMA 3.2 on the Hub says 32; for that add "rope_scaling_factor": 32 to params.json',
    )


def _params(path: Path) -> dict[str, Any]:
    try:
        params = read_json(path)
    except UnsafeFile as error:
        raise ConfigRefused(str(error)) from None
    for name in ("dim", "n_layers", "n_heads"):
        if type(params.get(name)) is not int or params[name] < 1:
            raise ConfigRefused(f"{path} has {name} {params.get(name)!r}, expected a positive integer")
    for name in OWN & params.keys():
        raise ConfigRefused(f"{path} has {name} {params[name]!r}, which the shards tell; remove it")
    return params


def shard_files(folder: Path) -> tuple[Path, ...]:
    """The shards of a folder, rank 0 first; their names end in the number of their rank.

    Raises:
        UnsafeFile: a rank is missing or stands twice.
    """
    files = sorted(folder.glob("*.pth"))
    numbered = sorted((int(match[-1]), file) for file in files if (match := re.findall(r"\d+", file.stem)))
    if len(files) == 1 and not numbered:
        return tuple(files)
    ranks = [number for number, _ in numbered]
    if len(numbered) != len(files) or ranks != list(range(len(files))) or len(files) > MOST_RANKS:
        names = ", ".join(file.name for file in files[:8])
        raise UnsafeFile(f"{folder} holds {names}, expected one shard for each rank from 00 on")
    return tuple(file for _, file in numbered)


def _check_alike(files: Sequence[Path], ranks: Sequence[Rank]) -> None:
    """Every rank holds the same keys, and parts of one shape and dtype."""
    first = ranks[0]
    for file, rank in zip(files, ranks, strict=True):
        if rank.keys() != first.keys():
            key = min(rank.keys() ^ first.keys())
            here, there = (file.name, files[0].name) if key in rank else (files[0].name, file.name)
            raise CoverageRefused(f"{key} is in {here} and not in {there}, expected the same keys in all shards")
        for key, tensor in rank.items():
            if (tensor.shape, tensor.dtype) != (first[key].shape, first[key].dtype):
                found = f"{tensor.dtype} {list(tensor.shape)} in {file.name}"
                other = f"{first[key].dtype} {list(first[key].shape)} in {files[0].name}"
                raise ShapeMismatch(f"{key} is {found} and {other}, expected shards of one model-parallel size")


def _found(params: Mapping[str, Any], ranks: Sequence[Rank]) -> dict[str, Any]:
    """What the shards say about the model: rows of the vocabulary, tie, and how the parts lie."""
    first, count = ranks[0], len(ranks)
    if EMBEDDING not in first or len(first[EMBEDDING].shape) != 2:
        raise CoverageRefused(f"{EMBEDDING} is missing{nearest(EMBEDDING, first)}; it tells how the shards were cut")
    rows, columns = first[EMBEDDING].shape
    _check_degree(params["dim"], columns, first, count)
    by_rows = count > 1 and columns == params["dim"]
    found: dict[str, Any] = {"tie_word_embeddings": HEAD not in first}
    if params.get("vocab_size", -1) == -1:
        found["vocab_size"] = rows * count if by_rows else rows
    return {**found, **({"model_parallel": count, "vocab_parallel": by_rows} if count > 1 else {})}


def _check_degree(dim: int, columns: int, first: Rank, count: int) -> None:
    """The parts of all ranks together must be a whole model."""
    if columns not in (dim, dim // count):
        raise ShapeMismatch(
            f"{EMBEDDING} has {columns} columns in each of {count} shards, params.json says dim {dim}: shards are"
            f" missing, or it is another model's"
        )
    if QUERIES in first and first[QUERIES].shape[:1] != (dim // count,):
        rows = first[QUERIES].shape[0] * count if first[QUERIES].shape else 0
        raise ShapeMismatch(
            f"{QUERIES} has {rows} rows in {count} shards, params.json says dim {dim}: shards are missing, or it is"
            f" another model's"
        )


FORM = Form("meta", "Meta's params.json and consolidated.NN.pth", (PARAMS,), recognises, read)
