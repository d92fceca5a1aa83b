"""Reading the weights of a LLaMA under Meta's names, from Meta's shards or a llama2.c file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from converters.checkpoint.json_files import read_json
from golden.errors import FolderError
from golden.references.interleaved_llama import Args, InterleavedLlama

COLUMN_PARALLEL = ("wq", "wk", "wv", "w1", "w3", "output")
ROW_PARALLEL = ("wo", "w2")


def load_meta(path: Path, dtype: torch.dtype, attn: str | None) -> InterleavedLlama:
    """The model of a folder with params.json, or of a file in it."""
    folder = path if path.is_dir() else path.parent
    params = read_json(folder / "params.json")
    files = sorted(folder.glob("*.pth"), key=lambda file: [int(n) for n in re.findall(r"\d+", file.stem)])
    return meta_model(params, [torch.load(file, map_location="cpu", weights_only=True) for file in files], dtype)


def meta_model(
    params: Mapping[str, Any], shards: Sequence[Mapping[str, Tensor]], dtype: torch.dtype
) -> InterleavedLlama:
    """The model of some params and the tensors of each rank."""
    weights = {key: _gathered(key, [shard[key] for shard in shards], params["dim"]) for key in shards[0]}
    scaled = params.get("use_scaled_rope", False)
    args = Args(
        dim=params["dim"],
        n_layers=params["n_layers"],
        n_heads=params["n_heads"],
        n_kv_heads=params.get("n_kv_heads") or params["n_heads"],
        vocab_size=len(weights["tok_embeddings.weight"]),
        norm_eps=params.get("norm_eps", 1e-5),
        rope_theta=params.get("rope_theta", 10000.0),
        scale=(params.get("rope_scaling_factor") or 8.0) if scaled else None,
    )
    return _built(args, weights, dtype)


def _gathered(key: str, parts: Sequence[Tensor], dim: int) -> Tensor:
    """The parts of all ranks as fairscale's layers put their results together."""
    name = key.removesuffix(".weight").rpartition(".")[2]
    if name in COLUMN_PARALLEL:
        return torch.cat(list(parts))
    if name in ROW_PARALLEL:
        return torch.cat(list(parts), 1)
    if name == "tok_embeddings" and len(parts) > 1:
        return torch.cat(list(parts), 0 if parts[0].shape[1] == dim else 1)
    return parts[0]


def load_llama2c(path: Path, dtype: torch.dtype, attn: str | None) -> InterleavedLlama:
    """The model of a file of version 0 or 1, mapped as `run.c` and `export.py` have it."""
    file = _only(path, "*.bin")
    head = np.fromfile(file, "<i4", 64)
    version, sizes = (int(head[1]), head[2:9]) if head[0] == 0x616B3432 else (0, head[:7])
    dim, hidden, layers, heads, kv, vocab, length = (int(n) for n in sizes)
    tied = bool(head[9] & 0xFF) if version else vocab > 0
    rest = np.fromfile(file, "<f4", offset=256 if version else 28)
    args = Args(dim, layers, heads, kv, abs(vocab), max_seq_len=length)
    read = _Reader(rest)
    weights: dict[str, Tensor] = {}
    if version:
        weights |= read.layers(args, {"attention_norm": (dim,), "ffn_norm": (dim,)})
        weights |= {"norm.weight": read.take(dim), "tok_embeddings.weight": read.take(abs(vocab), dim)}
    else:
        weights |= {"tok_embeddings.weight": read.take(abs(vocab), dim)}
        weights |= read.layers(args, {"attention_norm": (dim,)})
    rows = kv * (dim // heads)
    named = {"wq": (dim, dim), "wk": (rows, dim), "wv": (rows, dim), "wo": (dim, dim)}
    weights |= read.layers(args, {f"attention.{name}": shape for name, shape in named.items()})
    if not version:
        weights |= read.layers(args, {"ffn_norm": (dim,)})
    named = {"w1": (hidden, dim), "w2": (dim, hidden), "w3": (hidden, dim)}
    weights |= read.layers(args, {f"feed_forward.{name}": shape for name, shape in named.items()})
    if not version:
        weights |= {"norm.weight": read.take(dim)}
        read.take(length, dim // heads)  # cosines and sines, which run.c skips
    if not tied:
        weights["output.weight"] = read.take(abs(vocab), dim)
    return _built(args, weights, dtype)


class _Reader:
    """Numbers, taken in order."""

    def __init__(self, numbers: Any) -> None:
        self.numbers, self.at = numbers, 0

    def take(self, *shape: int) -> Tensor:
        """The next tensor of a shape."""
        count = int(np.prod(shape))
        found = torch.from_numpy(self.numbers[self.at : self.at + count].copy()).view(*shape)
        self.at += count
        return found

    def layers(self, args: Args, kinds: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Kind by kind, all layers of each."""
        return {f"layers.{i}.{k}.weight": self.take(*shape) for k, shape in kinds.items() for i in range(args.n_layers)}


def _only(path: Path, pattern: str) -> Path:
    found = sorted(path.glob(pattern)) if path.is_dir() else [path]
    if len(found) != 1:
        raise FolderError(f"{path} holds {len(found)} files {pattern}; give the one you mean")
    return found[0]


def _built(args: Args, weights: Mapping[str, Tensor], dtype: torch.dtype) -> InterleavedLlama:
    return InterleavedLlama(args, {key: weight.to(dtype) for key, weight in weights.items()}).eval()
