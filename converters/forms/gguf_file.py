"""GGUF files of LLaMAs and GPT-2s, as llama.cpp writes them: `general.architecture` llama or gpt2.

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

from converters.checkpoint import Checkpoint, FileState, StoredTensor
from converters.errors import ConfigRefused, UnsafeFile
from converters.forms import Form
from converters.forms.dequantise import as_float32, check_types
from converters.gguf_header import GgufTensor, is_gguf, read_gguf
from converters.safetensors_header import BITS

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
        known = " and ".join(ARCHITECTURES)
        raise ConfigRefused(f"{path} has general.architecture {architecture!r}; GGUF files of {known} are read")
    if header.metadata.get("split.count", 0) not in (0, 1):
        raise UnsafeFile(f"{path} is one of several parts; merge them first: llama-gguf-split --merge {path.name} ...")
    quantised = [tensor for tensor in header.tensors if tensor.kind not in BITS]
    check_types(path, quantised, allowed=dequantize)
    made = [tensor for tensor in header.tensors if quantised and tensor.kind != "F32"]
    tensors = {tensor.key: tensor for tensor in _stored(path, header.tensors, made)}
    config = {"model_type": f"{architecture}-gguf", **_config(header.metadata, str(architecture), tensors)}
    files, state = ((path, path) if made else (path,)), FileState.of(path)
    notes = ("the tokenizer inside the file is not carried; take tokenizer files from the original model",)
    unpack = partial(as_float32, path, made) if made else None
    lossy = (_step(made),) if made else ()
    return Checkpoint(path, config, tensors, files, (path,), notes, (state,) * len(files), lossy, unpack)


def _stored(path: Path, tensors: Sequence[GgufTensor], made: Sequence[GgufTensor]) -> Iterator[StoredTensor]:
    """Tensors in place, and those that are made where they will lie in a file of their own."""
    at, keys = 0, {tensor.key for tensor in made}
    for tensor in tensors:
        if tensor.key not in keys:
            yield StoredTensor(tensor.key, tensor.key, tensor.kind, tensor.shape, path, 0, tensor.begin)
            continue
        yield StoredTensor(tensor.key, tensor.key, "F32", tensor.shape, path, 1, at)
        at += prod(tensor.shape) * 4


def _step(made: Sequence[GgufTensor]) -> dict[str, Any]:
    """The lossy step as conversion.json has it."""
    kinds = sorted({tensor.kind for tensor in made})
    return {"step": "dequantize", "dtype": "float32", "types": {k: sum(t.kind == k for t in made) for k in kinds}}


def _config(metadata: Mapping[str, Any], architecture: str, tensors: Mapping[str, StoredTensor]) -> dict[str, Any]:
    config = {name: value for name, value in metadata.items() if not name.startswith(IGNORED)}
    config |= {name: metadata[name] for name in TOKENS if name in metadata}
    if EMBEDDING in tensors:
        embedding = tensors[EMBEDDING]
        config.setdefault(f"{architecture}.vocab_size", embedding.shape[0] if embedding.shape else 0)
        config["dtype"] = DTYPES.get(embedding.dtype)
    if architecture == "llama" and BIAS in tensors:
        config["attention_bias"] = True
    if FREQUENCIES in tensors:
        config[SCALE] = _largest(tensors[FREQUENCIES])
    return {**config, "tie_word_embeddings": HEAD not in tensors}


def _largest(tensor: StoredTensor) -> float:
    """The largest of the factors by which frequencies are divided."""
    if tensor.dtype != "F32" or tensor.shard or not 0 < tensor.nbytes <= 1 << 16:
        raise UnsafeFile(f"{tensor.key} is {tensor.dtype} {list(tensor.shape)}, expected a few numbers of float32")
    with tensor.file.open("rb") as file:
        file.seek(tensor.begin)
        factors: tuple[float, ...] = struct.unpack(f"<{tensor.nbytes // 4}f", file.read(tensor.nbytes))
    return max(factors)


FORM = Form("gguf", "a GGUF file of a llama or gpt2", ("*.gguf",), is_gguf, read)
