"""nGPT of alxndrTL/modded-nanogpt (`train_ngpt2.py`), with mup_width_mult 1.

Its turn goes the other way: y1 = x1 cos + x2 sin, y2 = x2 cos - x1 sin. Cosines and sines are rounded to bfloat16. They
are made from float32 angles whatever the dtype of the model; here by float64, since float32 cosines differ among
processors in their last bit, and one between two numbers of bfloat16 would be rounded to either.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from golden.references.base import Cache, Linear, Output, Reference, config_of, embedding, extended, unwrapped
from golden.references.sphere import cast, causal, joined, n, reciprocal, split, wide

FLOAT32_BITS, BFLOAT16_BITS = 24, 8


def load(path: Path, dtype: torch.dtype, attn: str | None) -> ModdedNGPT:
    """The model of a state_step*.pt."""
    return built({}, torch.load(path, map_location="cpu", weights_only=True)["model"], dtype)


def shapes(fields: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the state dict of some sizes."""
    d, vocab, inner = fields["n_embd"], fields["vocab_size"], fields["n_inner"]
    layer: dict[str, tuple[int, ...]] = {f"attn.c_{name}.weight": (d, d) for name in ("q", "k", "v", "proj")}
    layer |= {"attn.qk_scaler.scale": (d // fields["n_head"],), "attn_scaler.scale": (d,), "mlp_scaler.scale": (d,)}
    layer |= {"mlp.c_fc.weight": (inner, d), "mlp.c_fc2.weight": (inner, d), "mlp.c_proj.weight": (d, inner)}
    layer |= {"mlp.u_scaler.scale": (inner,), "mlp.v_scaler.scale": (inner,)}
    found: dict[str, tuple[int, ...]] = {"transformer.wte.weight": (vocab, d)}
    for i in range(fields["n_layer"]):
        found |= {f"transformer.h.{i}.{key}": shape for key, shape in layer.items()}
    return found | {"logits_scaler.scale": (vocab,), "lm_head.weight": (vocab, d)}


def rounded(x: Tensor, bits: int) -> Tensor:
    """A float64 tensor with that many significant bits, ties to even; a run in float64 would leave a cast out."""
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp(torch.round(mantissa * 2.0**bits), exponent - bits)


def built(config: Mapping[str, Any], stored: Mapping[str, Tensor], dtype: torch.dtype) -> ModdedNGPT:
    """The model of a state dict, whatever wraps its keys; shapes say all sizes."""
    return ModdedNGPT(cast(unwrapped(stored), dtype)).eval()


class Attention(nn.Module):
    """c_proj(softmax(sqrt(head_dim) q k) v) with q, k = turned(qk_scaler sqrt(width) n(heads))."""

    def __init__(self, root: float, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.c_q, self.c_k, self.c_v, self.c_proj = (
            Linear(weights, f"attn.c_{name}") for name in ("q", "k", "v", "proj")
        )
        self.scale, self.root = nn.Parameter(weights["attn.qk_scaler.scale"]), root

    def forward(
        self, x: Tensor, *, tables: tuple[Tensor, Tensor], cache: Cache | None, layer: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        heads = x.shape[-1] // len(self.scale)
        q, k, v = (split(part(x), heads) for part in (self.c_q, self.c_k, self.c_v))
        q, k = (self.turned(n(part) * (self.scale * self.root), *tables).type_as(v) for part in (q, k))
        k, v = extended(cache, layer, k, v)
        return self.c_proj(joined(causal(q, k, v, len(self.scale) ** 0.5))), (k, v)

    @staticmethod
    def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(batch, heads, tokens, head_dim), each pair (i, i + head_dim / 2) rotated backwards."""
        half = x.shape[-1] // 2
        first, second = x[..., :half], x[..., half:]
        return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


class MLP(nn.Module):
    """c_proj((u_scaler c_fc x) * silu(v_scaler sqrt(width) c_fc2 x))."""

    def __init__(self, root: float, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.c_fc, self.c_fc2, self.c_proj = (Linear(weights, f"mlp.{name}") for name in ("c_fc", "c_fc2", "c_proj"))
        self.u, self.v = (nn.Parameter(weights[f"mlp.{name}_scaler.scale"]) for name in "uv")
        self.act, self.root = nn.SiLU(), root

    def forward(self, x: Tensor) -> Tensor:
        u, g = (self.u * self.c_fc(x)).type_as(x), (self.root * self.v * self.c_fc2(x)).type_as(x)
        found: Tensor = self.c_proj(u * self.act(g))
        return found


class Block(nn.Module):
    """Attention, then MLP, each a step n(x + |alpha sqrt(width) / layers| (n(y) - x))."""

    def __init__(self, layers: int, root: float, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.attn, self.mlp, self.factor = Attention(root, weights), MLP(root, weights), root / layers
        self.attn_rate, self.mlp_rate = (nn.Parameter(weights[f"{name}_scaler.scale"]) for name in ("attn", "mlp"))

    def forward(
        self, x: Tensor, tables: tuple[Tensor, Tensor], cache: Cache | None, layer: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, kept = self.attn(x, tables=tables, cache=cache, layer=layer)
        x = self.step(x, y, self.attn_rate)
        return self.step(x, self.mlp(x), self.mlp_rate), kept

    def step(self, x: Tensor, y: Tensor, rate: Tensor) -> Tensor:
        """The stream after a branch."""
        a = (rate * self.factor).abs()
        return n((1.0 - a) * wide(x) + a * n(y)).type_as(x)


class ModdedNGPT(Reference):
    """The model, from the weights under their own names."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        rows = weights["transformer.wte.weight"]
        self.config = config_of(len(rows), 0, model_type="ngpt-modded-nanogpt")
        self.wte, self.root = embedding(rows), rows.shape[1] ** 0.5
        layers = 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("transformer.h."))
        starts = [f"transformer.h.{i}." for i in range(layers)]
        own = [{key.removeprefix(start): w for key, w in weights.items() if key.startswith(start)} for start in starts]
        self.h = nn.ModuleList(Block(layers, self.root, layer) for layer in own)
        self.lm_head, self.scale = Linear(weights, "lm_head"), nn.Parameter(weights["logits_scaler.scale"])
        self.frequencies = reciprocal(len(own[0]["attn.qk_scaler.scale"]))  # no buffer: it stays in float32

    def forward(self, input_ids: Tensor, past_key_values: Cache | None = None, use_cache: bool = False) -> Output:
        start = past_key_values[0][0].shape[2] if past_key_values else 0
        x, kept = self.wte(input_ids), []
        places = torch.arange(start, start + input_ids.shape[1]).double()
        angles = rounded(places[:, None] * self.frequencies.double(), FLOAT32_BITS)
        tables = tuple(rounded(table, BFLOAT16_BITS).type_as(wide(x)) for table in (angles.cos(), angles.sin()))
        for i, block in enumerate(self.h):
            x, pair = block(x, (tables[0], tables[1]), past_key_values, i)
            kept.append(pair)
        logits: Tensor = self.lm_head(x)
        return Output((logits * (self.scale * self.root)).type_as(logits), kept)
