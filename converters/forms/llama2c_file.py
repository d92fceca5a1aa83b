"""Reading llama2.c's `.bin`: seven integers, then float32 tensors in a fixed order, all layers of one kind together.

Version 0 has no magic number: dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size (negative: a head of its own)
and seq_len as int32, then the tensors, among them the rotary tables of cosines and sines. Version 1 begins with `ak42`,
has its tie in a byte, another order, and no tables. Version 2 is quantised and refused. There are no names in the file;
those here are llama2.c's own in `model.py`. Source: llama2.c at 350e04f, `export.py` and `run.c`.
"""

import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from converters.checkpoint.checkpoint import Checkpoint, FileState, StoredTensor
from converters.checkpoint.file_forms import Form
from converters.checkpoint.regular_files import open_regular
from converters.errors import UnsafeFile

MAGIC = 0x616B3432  # "ak42"
HEADERS = {0: 28, 1: 256}  # version -> bytes
SIZES = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")
LARGEST = (1 << 20, 1 << 24, 1 << 12, 1 << 12, 1 << 12, 1 << 26, 1 << 24)
TABLES = ("freqs_cos", "freqs_sin")

# Kinds of tensors in the order of the file, with the names of their sizes; those before `{i}` stand once per layer.
Kind = tuple[str, tuple[str, ...]]
EMBEDDING: Kind = ("tok_embeddings.weight", ("vocab_size", "dim"))
ATTENTION_NORM: Kind = ("layers.{i}.attention_norm.weight", ("dim",))
FFN_NORM: Kind = ("layers.{i}.ffn_norm.weight", ("dim",))
NORM: Kind = ("norm.weight", ("dim",))
HEAD: Kind = ("output.weight", ("vocab_size", "dim"))
ATTENTION: tuple[Kind, ...] = (
    ("layers.{i}.attention.wq.weight", ("dim", "dim")),
    ("layers.{i}.attention.wk.weight", ("kv_dim", "dim")),
    ("layers.{i}.attention.wv.weight", ("kv_dim", "dim")),
    ("layers.{i}.attention.wo.weight", ("dim", "dim")),
)
FEED_FORWARD: tuple[Kind, ...] = (
    ("layers.{i}.feed_forward.w1.weight", ("hidden_dim", "dim")),
    ("layers.{i}.feed_forward.w2.weight", ("dim", "hidden_dim")),
    ("layers.{i}.feed_forward.w3.weight", ("hidden_dim", "dim")),
)
FREQUENCIES: tuple[Kind, ...] = tuple((name, ("seq_len", "half_head")) for name in TABLES)
ORDERS: dict[int, tuple[Kind, ...]] = {
    0: (EMBEDDING, ATTENTION_NORM, *ATTENTION, FFN_NORM, *FEED_FORWARD, NORM, *FREQUENCIES, HEAD),
    1: (ATTENTION_NORM, FFN_NORM, NORM, EMBEDDING, *ATTENTION, *FEED_FORWARD, HEAD),
}


def recognises(path: Path) -> bool:
    """Whether a file begins as llama2.c's do: a magic number, or seven sizes that can be a model's."""
    with open_regular(path) as file:
        head = file.read(HEADERS[0])
    if len(head) < HEADERS[0]:
        return False
    return struct.unpack("<I", head[:4])[0] == MAGIC or _sound(
        dict(zip(SIZES, struct.unpack("<7i", head), strict=True))
    )


def _sound(sizes: Mapping[str, int]) -> bool:
    values = [abs(value) if name == "vocab_size" else value for name, value in sizes.items()]
    if not all(0 < value <= most for value, most in zip(values, LARGEST, strict=True)):
        return False
    dim, heads = sizes["dim"], sizes["n_heads"]
    return dim % heads == 0 and dim // heads % 2 == 0 and heads % sizes["n_kv_heads"] == 0


def read(path: Path, dequantize: bool) -> Checkpoint:
    """Opens a llama2.c file; its size must be exactly what its header says.

    Raises:
        UnsafeFile: it is truncated, has sizes that no model can have, or is quantised.
    """
    config = _header(path)
    tensors = {tensor.key: tensor for tensor in _tensors(path, config)}
    end = max(tensor.begin + tensor.nbytes for tensor in tensors.values())
    state = FileState.of(path)
    if end != state.nbytes:
        raise UnsafeFile(f"{path} should have {end} bytes by its header, but has {state.nbytes}: {_listed(config)}")
    config = {"model_type": "llama2c", **config, "dtype": "float32"}
    said_by = f"the header of {path.name}"
    return Checkpoint(path, config, tensors, (path,), (path,), states=(state,), said_by=said_by)


def _header(path: Path) -> dict[str, Any]:
    """Sizes by name, the version, and whether head and embedding are one."""
    with open_regular(path) as file:
        head = file.read(HEADERS[1])
    version, at = 0, 0
    if head[:4] == MAGIC.to_bytes(4, "little"):
        version, at = int.from_bytes(head[4:8], "little"), 8
        if version == 2:
            raise UnsafeFile(f"{path} is quantised to int8 (version 2 of llama2.c); export version 0 or 1 instead")
        if version != 1 or len(head) < HEADERS[1] or head[36] > 1 or any(head[37:]):
            raise UnsafeFile(
                f"{path} has a broken header, or is of version {version}; expected version 0 or 1 of llama2.c"
            )
    sizes = dict(zip(SIZES, struct.unpack("<7i", head[at : at + 28]), strict=True))
    if not _sound(sizes) or (version and sizes["vocab_size"] < 0):
        raise UnsafeFile(f"{path} has sizes that no model can have: {_listed(sizes)}")
    tied = bool(head[36]) if version else sizes["vocab_size"] > 0
    return {**sizes, "vocab_size": abs(sizes["vocab_size"]), "version": version, "tie_word_embeddings": tied}


def _listed(sizes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {sizes[name]}" for name in SIZES)


def _tensors(path: Path, config: Mapping[str, Any]) -> Iterator[StoredTensor]:
    at = HEADERS[config["version"]]
    for key, shape in keys_in_order(config):
        yield StoredTensor(key, key, "F32", shape, path, 0, at)
        at += prod(shape) * 4


def keys_in_order(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Key and shape of every tensor of a file, in its order."""
    head_dim = config["dim"] // config["n_heads"]
    sizes = {**config, "kv_dim": config["n_kv_heads"] * head_dim, "half_head": head_dim // 2}
    for template, names in ORDERS[config["version"]]:
        if template == HEAD[0] and config["tie_word_embeddings"]:
            continue
        layers = config["n_layers"] if "{i}" in template else 1
        for i in range(layers):
            yield template.format(i=i), tuple(sizes[name] for name in names)


FORM = Form("llama2c", "a llama2.c file (.bin, float32)", ("*.bin",), recognises, read)
