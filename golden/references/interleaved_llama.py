"""LLaMA as Meta published it (`model.py` of `llama` and `llama3`; llama2.c has the same): neighbouring elements of q
and k are complex numbers, rotated by multiplication."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golden.references.base import Cache, Output, Reference, attend, config_of, embedding, extended


@dataclass(frozen=True)
class Args:
    """The sizes of a model; `scale`: the factor of LLaMA 3.1's rotary scaling, None without it."""

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    max_seq_len: int = 2048
    scale: float | None = None


class RMSNorm(nn.Module):
    """x / rms(x) in float32, then times the weight in the dtype of x."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(weight), eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return normed.type_as(x) * self.weight


class Attention(nn.Module):
    """Grouped heads; query head j uses key head j // (n_heads / n_kv_heads)."""

    def __init__(self, args: Args, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.args = args
        self.wq, self.wk, self.wv, self.wo = (nn.Parameter(weights[f"attention.w{n}.weight"]) for n in "qkvo")

    def forward(
        self, x: Tensor, *, turns: Tensor, cache: Cache | None, layer: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch, tokens, _ = x.shape
        heads, kv = self.args.n_heads, self.args.n_kv_heads
        q = F.linear(x, self.wq).view(batch, tokens, heads, -1)
        k = F.linear(x, self.wk).view(batch, tokens, kv, -1)
        v = F.linear(x, self.wv).view(batch, tokens, kv, -1)
        q, k = turned(q, turns), turned(k, turns)
        k, v = extended(cache, layer, k.transpose(1, 2), v.transpose(1, 2))
        many_k, many_v = (part.repeat_interleave(heads // kv, dim=1) for part in (k, v))
        out = attend(q.transpose(1, 2), many_k, many_v)
        return F.linear(out.transpose(1, 2).reshape(batch, tokens, -1), self.wo), (k, v)


class FeedForward(nn.Module):
    """w2(silu(w1 x) * w3 x)."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = (nn.Parameter(weights[f"feed_forward.w{n}.weight"]) for n in "123")
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.act(F.linear(x, self.w1)) * F.linear(x, self.w3), self.w2)


class Block(nn.Module):
    """Attention, then feed-forward, each behind its norm and added."""

    def __init__(self, args: Args, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(weights["attention_norm.weight"], args.norm_eps)
        self.self_attn = Attention(args, weights)
        self.post_attention_layernorm = RMSNorm(weights["ffn_norm.weight"], args.norm_eps)
        self.mlp = FeedForward(weights)

    def forward(
        self, x: Tensor, turns: Tensor, cache: Cache | None, layer: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        out, kept = self.self_attn(self.input_layernorm(x), turns=turns, cache=cache, layer=layer)
        h = x + out
        return h + self.mlp(self.post_attention_layernorm(h)), kept


class InterleavedLlama(Reference):
    """The model, from weights under Meta's names."""

    def __init__(self, args: Args, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.args, self.config = args, config_of(args.vocab_size, args.max_seq_len, model_type="interleaved-llama")
        self.tok_embeddings = embedding(weights["tok_embeddings.weight"])
        starts = [f"layers.{i}." for i in range(args.n_layers)]
        own = [{key.removeprefix(start): w for key, w in weights.items() if key.startswith(start)} for start in starts]
        self.layers = nn.ModuleList(Block(args, layer) for layer in own)
        self.norm = RMSNorm(weights["norm.weight"], args.norm_eps)
        self.output = nn.Parameter(weights.get("output.weight", weights["tok_embeddings.weight"]).clone())
        self.frequencies = frequencies(args)  # no buffer: it stays in float32 whatever the weights are cast to

    def forward(self, input_ids: Tensor, past_key_values: Cache | None = None, use_cache: bool = False) -> Output:
        start = past_key_values[0][0].shape[2] if past_key_values else 0
        positions = torch.arange(start, start + input_ids.shape[1])
        angles = torch.outer(positions.float(), self.frequencies.float())  # (tokens, head_dim / 2)
        turns = torch.polar(torch.ones_like(angles), angles)
        h, kept = self.tok_embeddings(input_ids), []
        for i, layer in enumerate(self.layers):
            h, pair = layer(h, turns, past_key_values, i)
            kept.append(pair)
        return Output(F.linear(self.norm(h), self.output), kept)


def frequencies(args: Args) -> Tensor:
    """theta^(-2k / head_dim) in float32, (head_dim / 2,), scaled as LLaMA 3.1 does it."""
    head_dim = args.dim // args.n_heads
    found = 1.0 / (args.rope_theta ** (torch.arange(0, head_dim, 2)[: head_dim // 2].float() / head_dim))
    return found if args.scale is None else torch.stack([_scaled(freq, args.scale) for freq in found])


def _scaled(freq: Tensor, scale: float, low: float = 1, high: float = 4, original: int = 8192) -> Tensor:
    """A frequency after `apply_scaling` of Meta's llama3: waves shorter than original / high stay as they are."""
    wavelength = 2 * math.pi / freq
    if wavelength < original / high:
        return freq
    if wavelength > original / low:
        return freq / scale
    smooth = (original / wavelength - low) / (high - low)
    return (1 - smooth) * freq / scale + smooth * freq


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """(batch, tokens, heads, head_dim) with neighbouring elements as complex numbers multiplied by `turns`."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns[None, :, None, :]).flatten(3).type_as(x)
