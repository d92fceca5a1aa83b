"""Checkpoints of nGPT's dialects and the functions of both, written from their formulas by code that knows nothing of
converters or of MixFormer.

n(x) = x / |x| over the last axis. Frequencies are float32 numbers made in the order that each dialect publishes, all
that follows is computed in the dtype of the weights.
"""

import math
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import silu

Weights = dict[str, Tensor]
LAYER_MATRICES = ("query", "key", "value", "att_c_proj", "c_fc", "mlp_c_proj")


def tutorial_shapes(d: int, vocab: int, layers: int, rates: bool = True) -> dict[str, tuple[int, ...]]:
    """Keys of the tutorial's state dict, with their shapes."""
    found: dict[str, tuple[int, ...]] = {"embedding_layer.weight": (vocab, d)}
    for i in range(layers):
        layer = f"decoders.{i}."
        found |= {layer + "lr_atten": (d,), layer + "lr_mlp": (d,)} if rates else {}
        found |= {f"{layer}atten.{name}.weight": (d, d) for name in "qkvo"}
        found |= {layer + "atten.S_qk": (d,), layer + "mlp.S_uv": (8 * d,)}
        found |= {layer + "mlp.fc1.weight": (8 * d, d), layer + "mlp.fc2.weight": (d, 4 * d)}
    return found | {"outlayer.weight": (vocab, d), "outlayer.bias": (vocab,)}


def nvidia_shapes(args: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Keys of NVIDIA's state dict, with their shapes."""
    d, vocab = args["n_embd"], args["vocab_size"]
    found: dict[str, tuple[int, ...]] = {"transformer.wte.weight": (vocab, d), "lm_head.weight": (vocab, d)}
    sizes = {name: (d, d) for name in LAYER_MATRICES[:4]} | {"c_fc": (8 * d, d), "mlp_c_proj": (d, 4 * d)}
    for i in range(args["n_layer"]):
        layer = f"transformer.h.{i}."
        for name, shape in sizes.items():
            found[f"{layer}{name}.weight"] = shape
            found |= {f"{layer}{name}.bias": shape[:1]} if args["bias"] else {}
        if args["use_nGPT"]:
            found |= {layer + name: (d,) for name in ("sqk", "attn_alpha", "mlp_alpha")} | {layer + "suv": (8 * d,)}
        else:
            found |= {f"{layer}{name}.weight": (d,) for name in ("rmsnorm_att", "rmsnorm_mlp")}
    return found | ({"sz": (vocab,)} if args["use_nGPT"] else {"rmsnorm_f.weight": (d,)})


def hot(shapes: Mapping[str, tuple[int, ...]], base_scale: float = 1.0, seed: int = 0) -> Weights:
    """Rows of matrices of about length 1; scales whose effective values are 1 +- 0.3, and about +- 0.4 for rates."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(key: str, shape: tuple[int, ...]) -> Tensor:
        noise = torch.rand(shape, generator=generator) * 2 - 1
        name = key.rpartition(".")[2]
        if name == "bias":
            return noise * 0.2
        if name in ("lr_atten", "lr_mlp", "attn_alpha", "mlp_alpha"):
            unit = 1.0 if name.startswith("lr") else base_scale / 0.05
            return torch.sign(noise) * (0.4 + 0.1 * noise) * unit
        if len(shape) == 1:
            return (1 + 0.3 * noise) * (base_scale if name in ("sqk", "sz") else 1.0)
        return noise * (3 / shape[1]) ** 0.5

    return {key: drawn(key, shape) for key, shape in shapes.items()}


def by_sines(shapes: Mapping[str, tuple[int, ...]]) -> Weights:
    """Weights that anybody can rebuild: t[j] = sin(0.7 j + k) for the k-th key in order; scales 1 + 0.25 t."""
    found = {}
    for k, key in enumerate(sorted(shapes)):
        t = torch.sin(0.7 * torch.arange(math.prod(shapes[key]), dtype=torch.float64) + k).reshape(shapes[key])
        found[key] = (1 + 0.25 * t if t.ndim == 1 and not key.endswith("bias") else t).float()
    return found


def write_tutorial(
    path: Path, d: int = 24, vocab: int = 37, layers: int = 2, rates: bool = True, prefix: str = "", changes: Any = None
) -> Weights:
    """A bare state dict of the tutorial's model; gives its tensors without the prefix. changes: None takes one away."""
    weights = hot(tutorial_shapes(d, vocab, layers, rates)) | (changes or {})
    weights = {key: tensor for key, tensor in weights.items() if tensor is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({prefix + key: tensor for key, tensor in weights.items()}, path)
    return weights


@dataclass
class GPTConfig:
    """What NVIDIA's file holds as `config`."""

    block_size: int = 1024
    vocab_size: int = 50304
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 1024
    base_scale: float = 1.0 / 1024.0**0.5
    use_nGPT: int = 0  # noqa: N815  its name there
    dropout: float = 0.0
    bias: bool = False


GPTConfig.__module__ = "model"


@contextmanager
def model_module():
    """A module `model` with the class, as where NVIDIA's train.py runs."""
    module = ModuleType("model")
    module.GPTConfig = GPTConfig
    sys.modules["model"] = module
    try:
        yield
    finally:
        del sys.modules["model"]


def nvidia_args(**changes: Any) -> dict[str, Any]:
    """`model_args` of a small model."""
    sizes = {"n_layer": 2, "n_head": 4, "n_embd": 24, "block_size": 64, "vocab_size": 37}
    return {"use_nGPT": 1, **sizes, "base_scale": 24**-0.5, "bias": False, "dropout": 0.0} | changes


def write_nvidia(path: Path, *, prefix: str = "", half: bool = True, content: Any = None, **changes: Any) -> Weights:
    """A ckpt.pt with all that NVIDIA's train.py saves; gives its tensors without the prefix.

    half: matrices of layers in bfloat16. content: entries of the file; None takes one away. changes: of model_args.
    """
    args = nvidia_args(**changes)
    weights = hot(nvidia_shapes(args), args["base_scale"])
    if half:
        weights = {key: t.bfloat16() if set(key.split(".")) & set(LAYER_MATRICES) else t for key, t in weights.items()}
    save_nvidia(path, {prefix + key: tensor for key, tensor in weights.items()}, args, content)
    return weights


def save_nvidia(path: Path, model: Weights, args: Mapping[str, Any], content: Any = None) -> None:
    """The file itself."""
    state = {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}}
    entries = {
        "model": model,
        "optimizer": {"state": state, "param_groups": [{"lr": 15e-4, "betas": (0.9, 0.95), "params": [0]}]},
        "model_args": dict(args),
        "iter_num": 1000,
        "config": GPTConfig(**{name: args[name] for name in args if name in GPTConfig.__dataclass_fields__}),
        "rng_state_pytorch_bytes": bytes(range(256)),
        "rng_state_numpy": np.random.RandomState(0).get_state(),
    } | (content or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    with model_module():
        torch.save({name: value for name, value in entries.items() if value is not None}, path)


def n(x: Tensor) -> Tensor:
    """x / |x|."""
    return x / x.norm(dim=-1, keepdim=True)


def heads(x: Tensor, count: int) -> Tensor:
    """(tokens, width) as (heads, tokens, head_dim)."""
    return x.view(len(x), count, -1).transpose(0, 1)


def tutorial_logits(weights: Weights, n_head: int, ids: Tensor) -> Tensor:
    """(tokens, vocab) of one sequence, in the dtype of the weights."""
    w, x = weights, weights["embedding_layer.weight"][ids]
    h, kind = x.shape[1] // n_head, x.dtype
    frequencies = torch.pow(10000.0, -2.0 * torch.arange(h // 2, dtype=torch.float32) / h).to(kind)
    angles = torch.arange(len(ids), dtype=kind)[:, None] * frequencies
    later = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)

    def turned(x: Tensor) -> Tensor:
        even, odd = x[..., 0::2], x[..., 1::2]
        pairs = (even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos())
        return torch.stack(pairs, -1).flatten(-2)

    for i in range(sum(key.endswith("S_qk") for key in w)):
        layer = {key.removeprefix(f"decoders.{i}."): t for key, t in w.items()}
        scale = layer["atten.S_qk"].view(n_head, 1, h)
        q, k, v = (heads(x @ layer[f"atten.{name}.weight"].T, n_head) for name in "qkv")
        q, k = scale * n(turned(q)), scale * n(turned(k))
        y = ((q @ k.mT) * h**0.5).masked_fill(later, -1e8) @ v
        a = n(y.transpose(0, 1).flatten(1) @ layer["atten.o.weight"].T)
        x = n(n(x) + layer.get("lr_atten", torch.ones(())).abs() * a)
        u, gate = (x @ layer["mlp.fc1.weight"].T).chunk(2, -1)
        x = n(x + layer.get("lr_mlp", torch.ones(())).abs() * n((u * silu(gate)) @ layer["mlp.fc2.weight"].T))
    return x @ w["outlayer.weight"].T + w["outlayer.bias"]


def nvidia_logits(weights: Weights, args: Mapping[str, Any], ids: Tensor) -> Tensor:
    """(tokens, vocab) of one sequence, in the dtype of the weights."""
    w, x, b = weights, weights["transformer.wte.weight"][ids], args["base_scale"]
    n_head, d, kind, normalised = args["n_head"], args["n_embd"], weights["lm_head.weight"].dtype, args["use_nGPT"]
    h = d // n_head
    frequencies = torch.exp(torch.arange(0, h, 2, dtype=torch.float32) * -(math.log(10000.0) / h)).to(kind)
    angles = torch.arange(len(ids), dtype=kind)[:, None] * frequencies
    table = torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)
    s, c = table[:, : h // 2], table[:, h // 2 :]
    later = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)

    def turned(x: Tensor) -> Tensor:
        return torch.stack((-x[..., 1::2] * c, x[..., 0::2] * s), -1).flatten(-2)

    def rms(x: Tensor, name: str) -> Tensor:
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * layer[f"{name}.weight"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ layer[f"{name}.weight"].T + layer.get(f"{name}.bias", 0.0)

    def step(x: Tensor, y: Tensor, name: str) -> Tensor:
        rate = (layer[name] * (0.05 / b)).abs()
        return n(n(x) + rate * (n(y) - n(x))) if normalised else x + y

    for i in range(args["n_layer"]):
        layer = {key.removeprefix(f"transformer.h.{i}."): t for key, t in w.items()}
        layer |= {} if normalised else {"attn_alpha": torch.zeros(()), "mlp_alpha": torch.zeros(())}
        inner = x if normalised else rms(x, "rmsnorm_att")
        q, k, v = (heads(linear(inner, name), n_head) for name in ("query", "key", "value"))
        q, k = turned(q), turned(k)
        if normalised:
            scale = (layer["sqk"] * (1.0 / b)).view(n_head, 1, h)
            q, k = scale * n(q), scale * n(k)
        scores = (q @ k.mT) * (h**0.5 if normalised else h**-0.5)
        y = scores.masked_fill(later, -torch.inf).softmax(-1) @ v
        x = step(x, linear(y.transpose(0, 1).flatten(1), "att_c_proj"), "attn_alpha")
        inner = linear(x if normalised else rms(x, "rmsnorm_mlp"), "c_fc")
        u, gate = (inner * (layer["suv"] * (1.0 * d**0.5)) if normalised else inner).chunk(2, -1)
        x = step(x, linear(u * silu(gate), "mlp_c_proj"), "mlp_alpha")
    if normalised:
        return (x @ w["lm_head.weight"].T) * (w["sz"] * (1.0 / b))
    layer = w
    return rms(x, "rmsnorm_f") @ w["lm_head.weight"].T
