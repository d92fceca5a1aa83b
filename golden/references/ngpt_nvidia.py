"""nGPT as NVIDIA publishes it (`model.py` of NVIDIA/ngpt at ed19eb2), with use_nGPT 1 and with 0.

What stands there in the place of a rotary embedding is no rotation: it depends on positions themselves and changes
lengths. Checkpoints were trained with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from golden.references.base import Cache, Linear, Output, Reference, config_of, embedding, extended, unwrapped
from golden.references.sphere import cast, joined, n, positions, split, wide

EPS = 1e-6
MATRICES = ("query", "key", "value", "att_c_proj", "c_fc", "mlp_c_proj")


class Unneeded:
    """Stands for everything in a ckpt.pt that is no tensor, number, text or container. It keeps nothing."""

    def __new__(cls, *_: object) -> Unneeded:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass


STAND_INS = (
    "model.GPTConfig",
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "_codecs.encode",
)
"""What such a file names beside tensors: the config object, numpy's random state, bytes in pickles of protocol 2."""


def load(path: Path, dtype: torch.dtype, attn: str | None) -> NvidiaNGPT:
    """The model of a ckpt.pt."""
    with torch.serialization.safe_globals([(Unneeded, name) for name in STAND_INS]):
        saved = torch.load(path, map_location="cpu", weights_only=True)
    return built(saved["model_args"], saved["model"], dtype)


def shapes(args: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the state dict of some `model_args`."""
    width, vocab = args["n_embd"], args["vocab_size"]
    found: dict[str, tuple[int, ...]] = {"transformer.wte.weight": (vocab, width)}
    inner = {"c_fc": (8 * width, width), "mlp_c_proj": (width, 4 * width)}
    for i in range(args["n_layer"]):
        layer: dict[str, tuple[int, ...]] = {}
        for name in MATRICES:
            rows = inner.get(name, (width, width))
            layer |= {f"{name}.weight": rows, **({f"{name}.bias": rows[:1]} if args["bias"] else {})}
        if args["use_nGPT"]:
            layer |= {"attn_alpha": (width,), "sqk": (width,), "mlp_alpha": (width,), "suv": (8 * width,)}
        else:
            layer |= {"rmsnorm_att.weight": (width,), "rmsnorm_mlp.weight": (width,)}
        found |= {f"transformer.h.{i}.{key}": shape for key, shape in layer.items()}
    found |= {"sz": (vocab,)} if args["use_nGPT"] else {"rmsnorm_f.weight": (width,)}
    return found | {"lm_head.weight": (vocab, width)}


def built(args: Mapping[str, Any], stored: Mapping[str, Tensor], dtype: torch.dtype) -> NvidiaNGPT:
    """The model of some `model_args` and a state dict, whatever wraps its keys."""
    weights = unwrapped(stored)
    if not args["use_nGPT"]:
        return NvidiaNGPT(args, {key: weight.to(dtype) for key, weight in weights.items()}).eval()
    return NvidiaNGPT(args, cast(weights, dtype)).eval()


def frequencies(head_dim: int) -> Tensor:
    """exp(-2j ln(10000) / head_dim), (head_dim / 2,), float32."""
    return torch.exp(torch.arange(0, head_dim, 2, dtype=torch.float32) * (-math.log(10000.0) / head_dim))


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """(batch, heads, tokens, head_dim) after the odd turn, as `wide`.

    Of E = [sin a_0, cos a_0, sin a_1, ...] the first half multiplies the even elements and makes the odd ones; the
    second half multiplies the odd elements and makes the even ones, negated.
    """
    sines = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)  # (tokens, head_dim)
    first, second = sines.chunk(2, dim=-1)
    return torch.stack((-wide(x[..., 1::2]) * second, wide(x[..., 0::2]) * first), dim=-1).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention of (batch, heads, tokens, head_dim), the mask aligned to the last key."""
    scores = q @ k.transpose(2, 3) * scale  # (batch, heads, tokens, keys)
    tokens, keys = scores.shape[2:]
    later = torch.ones(tokens, keys, dtype=torch.bool).triu(keys - tokens + 1)
    weights = wide(scores).masked_fill(later, -torch.inf).softmax(-1)
    return weights.type_as(v) @ v


class RMSNorm(nn.Module):
    """x / rms(x) in float32, then times the weight in the dtype of x."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(weight), EPS

    def forward(self, x: Tensor) -> Tensor:
        normed = wide(x) * torch.rsqrt(wide(x).square().mean(-1, keepdim=True) + self.eps)
        return normed.type_as(x) * self.weight


class Attention(nn.Module):
    """Attention with queries and keys after the odd turn; `sqk`: normalised too, and scaled by sqk / base_scale."""

    def __init__(self, args: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.n_head, self.base_scale = args["n_head"], args["base_scale"]
        self.query, self.key, self.value = (Linear(weights, name) for name in ("query", "key", "value"))
        self.att_c_proj = Linear(weights, "att_c_proj")
        self.sqk = nn.Parameter(weights["sqk"]) if "sqk" in weights else None

    def forward(
        self, x: Tensor, *, angles: Tensor, cache: Cache | None, layer: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q, k, v = (split(part(x), self.n_head) for part in (self.query, self.key, self.value))
        q, k = turned(q, angles), turned(k, angles)
        root: float = v.shape[3] ** 0.5
        if self.sqk is not None:
            s = (self.sqk * (1.0 / self.base_scale)).view(self.n_head, 1, -1)
            q, k = s * n(q), s * n(k)
        k, v = extended(cache, layer, k.type_as(v), v)
        out = attend(q.type_as(v), k, v, 1.0 / root if self.sqk is None else root)
        return self.att_c_proj(joined(out)), (k, v)


class MLP(nn.Module):
    """mlp_c_proj(u * silu(g)), u and g being the halves of c_fc x; `suv`: of (suv sqrt(width)) * c_fc x."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.c_fc, self.mlp_c_proj, self.act = Linear(weights, "c_fc"), Linear(weights, "mlp_c_proj"), nn.SiLU()
        self.suv = nn.Parameter(weights["suv"]) if "suv" in weights else None

    def forward(self, x: Tensor) -> Tensor:
        uv = self.c_fc(x)
        if self.suv is not None:
            uv = ((self.suv * (1.0 * x.shape[-1] ** 0.5)) * uv).type_as(x)
        u, g = uv.chunk(2, dim=-1)
        found: Tensor = self.mlp_c_proj(u * self.act(g))
        return found


class Block(nn.Module):
    """Attention, then MLP: steps on a sphere with use_nGPT 1, sums behind RMS norms with 0."""

    def __init__(self, args: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.use_ngpt, self.base_scale = bool(args["use_nGPT"]), args["base_scale"]
        self.attn, self.mlp = Attention(args, weights), MLP(weights)
        if self.use_ngpt:
            self.attn_alpha, self.mlp_alpha = (nn.Parameter(weights[f"{name}_alpha"]) for name in ("attn", "mlp"))
        else:
            self.rmsnorm_att = RMSNorm(weights["rmsnorm_att.weight"])
            self.rmsnorm_mlp = RMSNorm(weights["rmsnorm_mlp.weight"])

    def forward(
        self, x: Tensor, angles: Tensor, cache: Cache | None, layer: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        given = x if self.use_ngpt else self.rmsnorm_att(x)
        y, kept = self.attn(given, angles=angles, cache=cache, layer=layer)
        if not self.use_ngpt:
            x = x + y
            return x + self.mlp(self.rmsnorm_mlp(x)), kept
        x = self.step(x, y, self.attn_alpha)
        return self.step(x, self.mlp(x), self.mlp_alpha), kept

    def step(self, x: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
        """n(n(x) + |alpha 0.05 / base_scale| (n(y) - n(x)))."""
        rate = (alpha * (0.05 / self.base_scale)).abs()
        return n(n(x) + rate * (n(y) - n(x))).type_as(x)


class NvidiaNGPT(Reference):
    """The model, from `model_args` and the weights under their own names."""

    def __init__(self, args: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        rows = weights["transformer.wte.weight"]
        self.config = config_of(len(rows), args["block_size"], model_type="ngpt-nvidia")
        self.base_scale, self.wte = args["base_scale"], embedding(rows)
        starts = [f"transformer.h.{i}." for i in range(args["n_layer"])]
        own = [{key.removeprefix(start): w for key, w in weights.items() if key.startswith(start)} for start in starts]
        self.h = nn.ModuleList(Block(args, layer) for layer in own)
        self.lm_head = Linear(weights, "lm_head")
        self.sz = nn.Parameter(weights["sz"]) if args["use_nGPT"] else None
        self.rmsnorm_f = None if args["use_nGPT"] else RMSNorm(weights["rmsnorm_f.weight"])
        self.frequencies = frequencies(args["n_embd"] // args["n_head"])  # no buffer: it stays in float32

    def forward(self, input_ids: Tensor, past_key_values: Cache | None = None, use_cache: bool = False) -> Output:
        start = past_key_values[0][0].shape[2] if past_key_values else 0
        x, kept = self.wte(input_ids), []
        angles = positions(input_ids.shape[1], start, self.frequencies, x)
        for i, block in enumerate(self.h):
            x, pair = block(x, angles, past_key_values, i)
            kept.append(pair)
        return Output(self._logits(x), kept)

    def _logits(self, x: Tensor) -> Tensor:
        if self.rmsnorm_f is not None:
            x = self.rmsnorm_f(x)
        logits: Tensor = self.lm_head(x)
        return logits if self.sz is None else (logits * (self.sz * (1.0 / self.base_scale))).type_as(logits)
