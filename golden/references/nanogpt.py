"""nanoGPT's model (`model.py` at 3adf61e): a GPT-2 with exact GELU whose head is its embedding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golden.references.base import Cache, Linear, Output, Reference, attend, config_of, embedding, extended, unwrapped


def load(path: Path, dtype: torch.dtype, attn: str | None) -> NanoGPT:
    """The model of a ckpt.pt, or of the folder that holds it."""
    file = next(iter(sorted(path.glob("*.pt")))) if path.is_dir() else path
    saved = torch.load(file, map_location="cpu", weights_only=True)
    return built(saved["model_args"], saved["model"], dtype)


def built(args: Mapping[str, Any], stored: Mapping[str, Tensor], dtype: torch.dtype) -> NanoGPT:
    """The model of some `model_args` and a state dict, whatever wraps its keys."""
    own = unwrapped(stored)
    return NanoGPT(args, {key: w.to(dtype) if w.is_floating_point() else w for key, w in own.items()}).eval()


class LayerNorm(Linear):
    """Over the last dimension, eps 1e-5, with or without a bias."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Attention(nn.Module):
    """q, k and v as three parts of one matrix."""

    def __init__(self, n_head: int, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.n_head = n_head
        self.c_attn, self.c_proj = Linear(weights, "attn.c_attn"), Linear(weights, "attn.c_proj")

    def forward(self, x: Tensor, *, cache: Cache | None, layer: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch, tokens, width = x.shape
        parts = self.c_attn(x).split(width, dim=2)
        q, k, v = (part.view(batch, tokens, self.n_head, -1).transpose(1, 2) for part in parts)
        k, v = extended(cache, layer, k, v)
        out = attend(q, k, v)
        return self.c_proj(out.transpose(1, 2).reshape(batch, tokens, width)), (k, v)


class MLP(nn.Module):
    """c_proj(gelu(c_fc x)), gelu by the error function."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.c_fc, self.act, self.c_proj = Linear(weights, "mlp.c_fc"), nn.GELU(), Linear(weights, "mlp.c_proj")

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.c_proj(self.act(self.c_fc(x)))
        return found


class Block(nn.Module):
    """Attention, then MLP, each behind its norm and added."""

    def __init__(self, n_head: int, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.ln_1, self.attn = LayerNorm(weights, "ln_1"), Attention(n_head, weights)
        self.ln_2, self.mlp = LayerNorm(weights, "ln_2"), MLP(weights)

    def forward(self, x: Tensor, cache: Cache | None, layer: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        out, kept = self.attn(self.ln_1(x), cache=cache, layer=layer)
        h = x + out
        return h + self.mlp(self.ln_2(h)), kept


class NanoGPT(Reference):
    """The model, from `model_args` and the weights under their own names."""

    def __init__(self, args: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        wte, wpe = weights["transformer.wte.weight"], weights["transformer.wpe.weight"]
        self.config = config_of(len(wte), len(wpe), model_type="nanogpt")
        self.wte = embedding(wte)
        self.wpe = embedding(wpe)
        starts = [f"transformer.h.{i}." for i in range(args["n_layer"])]
        own = [{key.removeprefix(start): w for key, w in weights.items() if key.startswith(start)} for start in starts]
        self.h = nn.ModuleList(Block(args["n_head"], layer) for layer in own)
        self.ln_f = LayerNorm(weights, "transformer.ln_f")

    def forward(self, input_ids: Tensor, past_key_values: Cache | None = None, use_cache: bool = False) -> Output:
        start = past_key_values[0][0].shape[2] if past_key_values else 0
        positions = torch.arange(start, start + input_ids.shape[1])
        x, kept = self.wte(input_ids) + self.wpe(positions), []
        for i, block in enumerate(self.h):
            x, pair = block(x, past_key_values, i)
            kept.append(pair)
        return Output(F.linear(self.ln_f(x), self.wte.weight), kept)
