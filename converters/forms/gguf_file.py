"""Reading GGUF files of LLaMA and GPT-2, as llama.cpp writes them: `general.architecture` llama or gpt2.

Tensors of type F32, F16 and BF16 are read in place. The others are quantised: they are refused, or dequantised on
request. The config is the file's own metadata; what describes the file (`general.*`), its tokenizer and its
quantisation says nothing about the function and is left out. Floats in it are float32 and are read as the shortest
number that is this float32.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from converters.checkpoint.checkpoint import Checkpoint, FileState, StoredTensor
from converters.checkpoint.file_forms import Form
from converters.checkpoint.gguf_header import GgufHeader, GgufTensor, is_gguf, read_gguf
from converters.checkpoint.safetensors_header import BITS
from converters.errors import ConfigRefused, UnsafeFile
from converters.forms.dequantise import as_float32, check_types

ARCHITECTURES = ("llama", "gpt2")
IGNORED = ("general.", "tokenizer.", "quantize.")
TOKENS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "padding"))
EMBEDDING, HEAD, FREQUENCIES = "token_embd.weight", "output.weight", "rope_freqs.weight"
BIAS = "blk.0.attn_q.bias"
SCALE = "rope_freqs.factor"  # not in the metadata: the largest element of the tensor
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def read(path: Path, dequantize: bool) -> Checkpoint:
    """Opens a GGUF file.

    Raises:
        UnsafeFile: the file is broken, or a part of one.
        ConfigRefused: it is of an architecture that is not read.
        NotInvertible: a tensor is quantised and may not be dequantised.
    """
    header = read_gguf(path)
    architecture = header.metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        known = " or ".join(ARCHITECTURES)
        raise ConfigRefused(f"{path} has general.architecture {architecture!r}, expected {known}")
    if header.metadata.get("split.count", 0) not in (0, 1):
        raise UnsafeFile(f"{path} is one of several parts; merge them first: llama-gguf-split --merge {path.name} ...")
    quantised = [tensor for tensor in header.tensors if tensor.kind not in BITS]
    check_types(path, quantised, allowed=dequantize)
    tensors = {tensor.key: tensor for tensor in (_as_float32 if quantised else _in_place)(path, header.tensors)}
    config = {"model_type": f"{architecture}-gguf", **_config(path, header, str(architecture), tensors)}
    notes = ("the tokenizer inside the file was not converted; copy the tokenizer files of the original model",)
    unpack = partial(as_float32, path, header.tensors) if quantised else None
    lossy = (_step(quantised),) if quantised else ()
    states, said_by = (FileState.of(path),), f"the metadata of {path.name}"
    return Checkpoint(path, config, tensors, (path,), (path,), notes, states, lossy, unpack, said_by)


def _in_place(path: Path, tensors: Sequence[GgufTensor]) -> Iterator[StoredTensor]:
    for tensor in tensors:
        yield StoredTensor(tensor.key, tensor.key, tensor.kind, tensor.shape, path, 0, tensor.begin)


def _as_float32(path: Path, tensors: Sequence[GgufTensor]) -> Iterator[StoredTensor]:
    """Where each tensor will lie after all are float32, one after the other."""
    at = 0
    for tensor in tensors:
        yield StoredTensor(tensor.key, tensor.key, "F32", tensor.shape, path, 0, at)
        at += prod(tensor.shape) * 4


def _step(quantised: Sequence[GgufTensor]) -> dict[str, Any]:
    """The lossy step as conversion.json has it."""
    kinds = sorted({tensor.kind for tensor in quantised})
    return {"step": "dequantize", "dtype": "float32", "types": {k: sum(t.kind == k for t in quantised) for k in kinds}}


def _config(path: Path, header: GgufHeader, architecture: str, tensors: Mapping[str, StoredTensor]) -> dict[str, Any]:
    config = {name: value for name, value in header.metadata.items() if not name.startswith(IGNORED)}
    config |= {name: header.metadata[name] for name in TOKENS if name in header.metadata}
    if EMBEDDING in tensors:
        embedding = tensors[EMBEDDING]
        config.setdefault(f"{architecture}.vocab_size", embedding.shape[0] if embedding.shape else 0)
        config["dtype"] = DTYPES.get(embedding.dtype)
    if architecture == "llama" and BIAS in tensors:
        config["attention_bias"] = True
    factors = next((tensor for tensor in header.tensors if tensor.key == FREQUENCIES), None)
    if factors:
        config[SCALE] = _largest(path, factors)
    return {**config, "tie_word_embeddings": HEAD not in tensors}


def _largest(path: Path, tensor: GgufTensor) -> float:
    """The largest of the factors by which frequencies are divided."""
    if tensor.kind != "F32" or not 0 < tensor.nbytes <= 1 << 16:
        raise UnsafeFile(f"{path}: {tensor.key} is {tensor.kind} {list(tensor.shape)}, expected a few float32 numbers")
    with path.open("rb") as file:
        file.seek(tensor.begin)
        factors: tuple[float, ...] = struct.unpack(f"<{tensor.nbytes // 4}f", file.read(tensor.nbytes))
    return max(factors)


FORM = Form("gguf", "a GGUF file of a llama or gpt2", ("*.gguf",), is_gguf, read)
