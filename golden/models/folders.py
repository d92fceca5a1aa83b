"""Model folders as they lie on disk: config, names and headers, read by the readers of converters. Without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from converters.checkpoint import opening
from converters.checkpoint import weight_files as weights
from converters.checkpoint.json_files import read_json
from converters.checkpoint.safetensors_header import TensorEntry, read_header
from converters.errors import ConversionError
from converters.provenance import read_record
from golden.errors import CannotBuildError, FolderError
from golden.references import is_native, native_config, native_elements

GENERATION = "generation_config.json"
_WIDTHS = ("hidden_size", "n_embd", "d_model")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_COUNTS = ("vocab_size", *_LAYERS, "intermediate_size", "n_inner")


@contextmanager
def reading() -> Iterator[None]:
    """Turns what converters cannot read into FolderError."""
    try:
        yield
    except ConversionError as broken:
        raise FolderError("; ".join([str(broken), *getattr(broken, "__notes__", [])])) from broken


def check_folder(folder: Path) -> None:
    """Reads what a folder or file says about its model, before torch is imported and memory is used.

    Raises:
        FolderError: something in it is no regular file, is broken, too large, or contradicts another file.
    """
    recorded_steps(folder)
    if is_native(folder):
        native_config(folder)
        return
    if not folder.is_dir():
        raise FolderError(f"{folder}: not a folder; expected a model folder with config.json and safetensors files")
    with reading():
        opening.read_config(folder)
        weight_files(folder)
        opening.open_folder(folder)
        if (folder / GENERATION).exists():
            read_json(folder / GENERATION)  # transformers reads it without limits


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a folder, or what a native file says. Raises FolderError where it cannot be read."""
    if is_native(folder):
        return native_config(folder)
    with reading():
        return opening.read_config(folder)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that transformers would load from the folder, in order of name.

    Raises:
        FolderError: there are none, or the index names something else than files of the folder.
    """
    with reading():
        found, _ = weights.weight_files(folder)
    if found[0].suffix != ".safetensors":
        raise FolderError(f"{folder}: no {weights.SINGLE} and no index of it; only safetensors folders can be judged")
    return found


def tensor_headers(path: Path) -> dict[str, TensorEntry]:
    """The tensors of one safetensors file by key. Raises FolderError where its header is broken."""
    with reading():
        return {entry.key: entry for entry in read_header(path).tensors}


def stored_elements(folder: Path) -> int:
    """Number of weights in the folder, read from headers only."""
    if is_native(folder):
        return native_elements(folder)
    return sum(prod(entry.shape) for path in weight_files(folder) for entry in tensor_headers(path).values())


def vocabulary(folder: Path) -> int:
    """Number of token ids by the config; 0 where it does not say one."""
    said = read_config(folder).get("vocab_size")
    return said if type(said) is int and said > 0 else 0


def check_config(folder: Path) -> None:
    """Check that config and files have about the same size, before memory is used.

    Raises:
        CannotBuildError: config.json describes a larger model than the files hold, or one whose results have no names.
        FolderError: the weights are quantised, config.json names code to be fetched, or a file cannot be read.
    """
    config, stored = read_config(folder), stored_elements(folder)
    if config.get("quantization_config"):
        raise FolderError(
            f"{folder}: config.json has a quantization_config; quantised weights cannot be judged, dequantise them"
        )
    for name, value in config.items():
        if name.endswith("_implementation") and isinstance(value, str) and "/" in value:
            raise FolderError(f"{folder}: config.json has {name} {value!r}, which is code of a hub; take it out")
    if not config.get("return_dict", True):
        raise CannotBuildError(
            f"{folder}: config.json has return_dict {config['return_dict']!r}, so that the model returns tuples, not "
            "logits by name; take it out"
        )
    tensors = sum(len(tensor_headers(path)) for path in weight_files(folder))
    width = next((config[name] for name in _WIDTHS if type(config.get(name)) is int), 1)
    for name in _COUNTS:
        count = config.get(name)
        if type(count) is int and (count * width > stored or (name in _LAYERS and count > tensors)):
            raise CannotBuildError(
                f"{folder}: config.json says {name} {count} and width {width}, but the files have {stored} weights in "
                f"{tensors} tensors: config and weights are of different models"
            )


def recorded_steps(candidate: Path) -> tuple[Mapping[str, Any], ...]:
    """``lossy_steps`` of the candidate's conversion.json; empty where it has none.

    Raises:
        FolderError: the file cannot be read, or is not what a conversion writes.
    """
    with reading():
        return tuple(read_record(candidate).get("lossy_steps") or ())
