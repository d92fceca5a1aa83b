"""What nGPT checkpoints hold and compute, tensor by tensor: the nGPT tutorial, and NVIDIA's with use_nGPT 1 and 0.

The published formulas, sharing no code with the components. A conftest loads this file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """Width, heads, layers and vocabulary; b is NVIDIA's base_scale."""

    d: int = 16
    heads: int = 2
    layers: int = 2
    vocabulary: int = 32
    b: float = 0.25

    @property
    def h(self) -> int:
        return self.d // self.heads


def n(x: Tensor) -> Tensor:
    """x / |x|; no vector is zero where this is called."""
    return x / x.norm(dim=-1, keepdim=True)


def heads_of(x: Tensor, sizes: Sizes) -> Tensor:
    """(S, d) to (H, S, h)."""
    return x.view(len(x), sizes.heads, sizes.h).transpose(0, 1)


# The tutorial.


def tutorial_keys(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    d, v = sizes.d, sizes.vocabulary
    keys: dict[str, tuple[int, ...]] = {"embedding_layer.weight": (v, d)}
    for i in range(sizes.layers):
        block = f"decoders.{i}."
        keys |= {f"{block}atten.{x}.weight": (d, d) for x in "qkvo"}
        keys |= {block + "atten.S_qk": (d,), block + "mlp.S_uv": (8 * d,)}
        keys |= {block + "mlp.fc1.weight": (8 * d, d), block + "mlp.fc2.weight": (d, 4 * d)}
        keys |= {block + "lr_atten": (d,), block + "lr_mlp": (d,)}
    return {**keys, "outlayer.weight": (v, d), "outlayer.bias": (v,)}


def tutorial_logits(t: Tensors, ids: Tensor, sizes: Sizes) -> Tensor:
    """(S, V) of one sequence (S,)."""
    x, h = t["embedding_layer.weight"][ids], sizes.h
    frequencies = torch.pow(10000, -2.0 * torch.arange(h // 2, dtype=torch.float32) / h).to(x.dtype)
    angles = torch.arange(len(ids), dtype=x.dtype)[:, None] * frequencies  # (S, h / 2)
    cos, sin = angles.cos(), angles.sin()
    later = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)

    def turned(x: Tensor) -> Tensor:
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)

    for i in range(sizes.layers):
        p = f"decoders.{i}."
        q, k, v = (heads_of(x @ t[f"{p}atten.{name}.weight"].T, sizes) for name in "qkv")
        scale = heads_of(t[p + "atten.S_qk"][None], sizes)  # (H, 1, h)
        q, k = scale * n(turned(q)), scale * n(turned(k))
        scores = (q @ k.transpose(-1, -2)) * math.sqrt(h)
        y = scores.masked_fill(later, -1e8) @ v
        a = n(y.transpose(0, 1).flatten(1) @ t[p + "atten.o.weight"].T)
        x = n(n(x) + t[p + "lr_atten"].abs() * a)
        u, g = (x @ t[p + "mlp.fc1.weight"].T).chunk(2, dim=-1)
        x = n(x + t[p + "lr_mlp"].abs() * n((u * F.silu(g)) @ t[p + "mlp.fc2.weight"].T))
    return x @ t["outlayer.weight"].T + t["outlayer.bias"]


# NVIDIA.

MATRICES = ("query", "key", "value", "att_c_proj", "c_fc", "mlp_c_proj")


def nvidia_keys(sizes: Sizes, ngpt: bool = True, bias: bool = False) -> dict[str, tuple[int, ...]]:
    d, v = sizes.d, sizes.vocabulary
    keys: dict[str, tuple[int, ...]] = {"transformer.wte.weight": (v, d), "lm_head.weight": (v, d)}
    rows = {"c_fc": 8 * d}
    for i in range(sizes.layers):
        p = f"transformer.h.{i}."
        keys |= {f"{p}{x}.weight": (rows.get(x, d), 4 * d if x == "mlp_c_proj" else d) for x in MATRICES}
        if bias:
            keys |= {f"{p}{x}.bias": (rows.get(x, d),) for x in MATRICES}
        vectors = ("sqk", "attn_alpha", "mlp_alpha") if ngpt else ("rmsnorm_att.weight", "rmsnorm_mlp.weight")
        keys |= {p + x: (d,) for x in vectors}
        if ngpt:
            keys[p + "suv"] = (8 * d,)
    return {**keys, "sz": (v,)} if ngpt else {**keys, "rmsnorm_f.weight": (d,)}


def nvidia_turn(x: Tensor) -> Tensor:
    """NVIDIA's odd turn of (H, S, h)."""
    length, h = x.shape[-2:]
    frequencies = torch.exp(torch.arange(0, h, 2, dtype=torch.float32) * (-math.log(10000.0) / h)).to(x.dtype)
    angles = torch.arange(length, dtype=x.dtype)[:, None] * frequencies
    table = torch.zeros(length, h, dtype=x.dtype)
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
    out = torch.empty_like(x)
    for i in range(h // 2):
        out[..., 2 * i] = -x[..., 2 * i + 1] * table[:, h // 2 + i]
        out[..., 2 * i + 1] = x[..., 2 * i] * table[:, i]
    return out


def nvidia_logits(t: Tensors, ids: Tensor, sizes: Sizes) -> Tensor:
    """(S, V) of one sequence (S,), of nGPT or of the plain decoder, as the keys say."""
    x, h, b = t["transformer.wte.weight"][ids], sizes.h, sizes.b
    ngpt = "sz" in t
    later = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)

    def linear(x: Tensor, key: str) -> Tensor:
        return F.linear(x, t[key + ".weight"], t.get(key + ".bias"))

    def rms(x: Tensor, key: str) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * t[key]

    def step(x: Tensor, y: Tensor, rate: Tensor) -> Tensor:
        rate = (rate * (0.05 / b)).abs()
        return n(n(x) + rate * (n(y) - n(x)))

    for i in range(sizes.layers):
        p = f"transformer.h.{i}."
        y = x if ngpt else rms(x, p + "rmsnorm_att.weight")
        q, k, v = (heads_of(linear(y, p + name), sizes) for name in ("query", "key", "value"))
        q, k = nvidia_turn(q), nvidia_turn(k)
        if ngpt:
            scale = heads_of((t[p + "sqk"] * (1.0 / b))[None], sizes)
            q, k = scale * n(q), scale * n(k)
        scores = (q @ k.transpose(-1, -2)) * (math.sqrt(h) if ngpt else 1 / math.sqrt(h))
        y = scores.masked_fill(later, -torch.inf).softmax(-1) @ v
        y = linear(y.transpose(0, 1).flatten(1), p + "att_c_proj")
        x = step(x, y, t[p + "attn_alpha"]) if ngpt else x + y
        uv = linear(x if ngpt else rms(x, p + "rmsnorm_mlp.weight"), p + "c_fc")
        u, g = ((t[p + "suv"] * sizes.d**0.5) * uv if ngpt else uv).chunk(2, dim=-1)
        y = linear(u * F.silu(g), p + "mlp_c_proj")
        x = step(x, y, t[p + "mlp_alpha"]) if ngpt else x + y
    logits = (x if ngpt else rms(x, "rmsnorm_f.weight")) @ t["lm_head.weight"].T
    return (t["sz"] * (1.0 / b)) * logits if ngpt else logits
