"""The header of a golden file: read with limits and checked field by field, without torch.

A golden file comes from another machine. Its digest guards against accidents, and anybody can compute it: so each field
must have its type, and each tensor the shape that the fields say, before they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from converters.checkpoint.json_text import parse_json
from converters.checkpoint.safetensors_header import TensorEntry, read_header
from converters.errors import ConversionError
from golden.errors import GoldenFileError

HEADER, VERSION = "mixformer-golden", 2
REQUIRED = (
    "form",
    "dtype",
    "family",
    "config",
    "vocab",
    "used_vocab",
    "table_sizes",
    "prompts",
    "hashes",
    "versions",
    "seed",
    "spread",
    "calibrations",
    "continuation_fresh",
)
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
"""Files beside config.json and the weights whose sha256 is recorded."""
ROW_COLUMNS = 4
"""Columns of a row of an embedding table."""
ROLES = ("norm_1", "activation", "attention", "mlp")
FLOATS, WHOLE = ("F64", "F32", "BF16", "F16"), ("I64", "I32")
Shape = tuple[int | None, ...]
ANY: Shape = (-1,)


def read_golden_header(path: Path) -> dict[str, Any]:
    """The fields of a golden file.

    Raises:
        GoldenFileError: it is missing, broken, no golden file, of a version that is not known, or contradicts itself.
    """
    try:
        found = read_header(path)
        if HEADER not in found.metadata:
            raise GoldenFileError(
                f"{path}: a safetensors file, but no golden file; make one with `convert golden record`"
            )
        header = parse_json(found.metadata[HEADER].encode(), nonfinite=True)
    except ConversionError as broken:
        raise GoldenFileError(f"{path}: the golden file cannot be read ({broken}); record it again") from broken
    if header.get("version") != VERSION:
        raise GoldenFileError(f"{path}: version {header.get('version')}, expected {VERSION}; record it again")
    if wrong := next(_faults(header, {entry.key: entry for entry in found.tensors}), None):
        raise GoldenFileError(f"{path}: {wrong}; record it again")
    return header


def _faults(header: Mapping[str, Any], tensors: Mapping[str, TensorEntry]) -> Iterator[str]:
    """A sentence for each field or tensor that is missing or not as it should be; the first is enough."""
    for name in REQUIRED:
        if name not in header:
            yield f"the tensor {name!r} is missing"
    for name, is_right in FIELDS.items():
        if name in header and not is_right(header[name]):
            yield f"the field {name!r} of its header has a wrong type or value"
    if header["form"] == "compact" and "sketch" not in header:
        yield "the field 'sketch' of its header is missing"
    for name, kinds, shape in _expected(header):
        entry = tensors.get(name)
        if entry is None:
            yield f"the tensor {name!r} is missing"
        elif entry.dtype not in kinds or not _fits(entry.shape, shape):
            sizes = ["any" if size is None else size for size in shape]
            yield f"the tensor {name!r} is {entry.dtype} {list(entry.shape)}, expected {kinds[0]} {sizes}"


def _fits(found: tuple[int, ...], expected: Shape) -> bool:
    """Whether a shape is the expected one, of which None may be any size from 1 on."""
    if expected is ANY:
        return all(found)
    pairs = zip(found, expected, strict=False)
    return len(found) == len(expected) and all(a == b if b is not None else a > 0 for a, b in pairs)


def _expected(header: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], Shape]]:
    """Name, dtypes and shape of every tensor that the fields speak of."""
    sketch = header.get("sketch") or {}
    for i in range(len(header["prompts"])):
        yield f"prompt.{i}", WHOLE, (None,)
        if header["form"] == "full":
            yield f"logits.{i}", FLOATS, (None, header["vocab"])
        else:
            yield f"top.{i}", WHOLE, (None, sketch["top"])
            yield f"columns.{i}", FLOATS, (None, 1 + sketch["top"] + sketch["projections"])
    for i in header.get("divided", ()):
        yield f"divisors.{i}", FLOATS, (None,)
    for table, size in header["table_sizes"].items():
        yield f"rows.{table}", FLOATS, (size, ROW_COLUMNS)
    for name, kinds in (("prompt", WHOLE), ("ids", WHOLE), ("margins", FLOATS)):
        yield f"continuation.{name}", kinds, (None,)
    for dtype, calibration in header.get("calibrations", {}).items():
        for j in range(len(calibration["probes"])):
            yield f"probe.{dtype}.{j}.given", FLOATS, ANY
            yield f"probe.{dtype}.{j}.truth", FLOATS, ANY
    for j in range(len(header.get("stages", ()))):
        yield f"stage.{j}", FLOATS, (None, None)


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _size(value: Any) -> bool:
    return _whole(value) and value > 0


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _list_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(is_right(item) for item in value)


def _map_to(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(is_right(item) for item in value.values())


def _fields(is_right: Mapping[str, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    """An object with these fields and no other."""
    return lambda value: (
        isinstance(value, dict)
        and value.keys() == is_right.keys()
        and all(is_right[name](item) for name, item in value.items())
    )


def _hashes(value: Any) -> bool:
    """Sha256 of files of a folder, by name."""
    return _map_to(_text)(value) and not any("/" in name or "\0" in name or name in (".", "..") for name in value)


def _prompts(value: Any) -> bool:
    return bool(value) and _list_of(_text)(value)


_PROBE = _fields({"name": _text, "role": lambda role: role in ROLES, "own": _number})
_CALIBRATION = _fields(
    {"rms": _number, "max": _number, "kl": _number, "prompts": _list_of(_whole), "probes": _list_of(_PROBE)}
)
_TOKENIZER = _fields({"files": _map_to(_text), "aspects": _map_to(_text), "why": _text})
FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "form": lambda form: form in ("full", "compact"),
    "dtype": lambda dtype: dtype in ("float64", "float32"),
    "family": lambda family: family is None or _text(family),
    "config": lambda config: isinstance(config, dict),
    "vocab": _size,
    "used_vocab": _size,
    "seed": _whole,
    "std": _number,
    "spread": _number,
    "table_sizes": _map_to(_size),
    "prompts": _prompts,
    "divided": _list_of(_whole),
    "stages": _list_of(_text),
    "continuation_fresh": lambda fresh: type(fresh) is bool,
    "hashes": _hashes,
    "versions": _map_to(_text),
    "sketch": _fields({"vocab": _size, "top": _size, "projections": _size, "seed": _whole}),
    "calibrations": _map_to(_CALIBRATION),
    "beside": lambda beside: (
        beside is None
        or _fields({"tokenizer": _TOKENIZER, "generation": lambda g: g is None or isinstance(g, dict)})(beside)
    ),
}
