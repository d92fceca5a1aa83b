"""nGPT of evintunador (`model.py` of that repository): logits as the model returns them, without `s_z`.

The model multiplies logits by s_z where it computes a loss, and returns those from before. Lengths below 1e-6 count as
1e-6. Rates keep their signs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from golden.references.base import Cache, Linear, Output, Reference, config_of, embedding, extended, unwrapped
from golden.references.sphere import causal, halves_turned, joined, positions, reciprocal, split, wide

LEAST = 1e-6


def load(path: Path, dtype: torch.dtype, attn: str | None) -> EvintunadorNGPT:
    """The model of a model.pth, its sizes from model_config.json beside it."""
    config = json.loads((path.parent / "model_config.json").read_text(encoding="utf-8"))
    return built(config, torch.load(path, map_location="cpu", weights_only=True), dtype)


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the state dict of a config, without the frequencies that it holds besides."""
    d, vocab, heads = config["dim"], config["vocab_len"], config["num_heads"]
    inner = int(d * config["mlp_hidden_mult"] * 2 / 3)
    layer: dict[str, tuple[int, ...]] = {f"attn.W{name}.weight": (d, d) for name in "qkvo"}
    layer |= {"attn.s_qk.s": (heads, d // heads), "alpha_A.s": (1, d), "alpha_M.s": (1, d)}
    layer |= {"mlp.Wup.weight": (inner, d), "mlp.Wgate.weight": (inner, d), "mlp.Wdown.weight": (d, inner)}
    layer |= {"mlp.s_u.s": (1, inner), "mlp.s_v.s": (1, inner)}
    found: dict[str, tuple[int, ...]] = {"token_embedder.weight": (vocab, d)}
    for i in range(config["num_layers"]):
        found |= {f"layers.{i}.{key}": shape for key, shape in layer.items()}
    return found | {"output.weight": (vocab, d), "s_z.s": (1, vocab)}


def built(config: Mapping[str, Any], stored: Mapping[str, Tensor], dtype: torch.dtype) -> EvintunadorNGPT:
    """The model of a config and a state dict, whatever wraps its keys; scales and frequencies stay float32 at least."""
    least = torch.promote_types(dtype, torch.float32)
    weights = {key: w.to(least if key.endswith((".s", "inv_freq")) else dtype) for key, w in unwrapped(stored).items()}
    return EvintunadorNGPT(config, weights).eval()


def unit(x: Tensor) -> Tensor:
    """x / max(|x|, 1e-6) over the last axis; as `wide`."""
    return wide(x) / wide(x).square().sum(-1, keepdim=True).sqrt().clamp(min=LEAST)


class Attention(nn.Module):
    """Wo(softmax(sqrt(head_dim) q k) v) with q, k = s_qk sqrt(width) times the turned, normalised heads."""

    def __init__(self, root: float, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.Wq, self.Wk, self.Wv, self.Wo = (Linear(weights, f"attn.W{name}") for name in "qkvo")
        self.s, self.root = nn.Parameter(weights["attn.s_qk.s"]), root

    def forward(
        self, x: Tensor, *, turn: tuple[Tensor, Tensor], cache: Cache | None, layer: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q, k, v = (split(part(x), len(self.s)) for part in (self.Wq, self.Wk, self.Wv))
        scale = (self.s * self.root)[:, None]
        q, k = ((unit(halves_turned(part, *turn)) * scale).type_as(v) for part in (q, k))
        k, v = extended(cache, layer, k, v)
        return self.Wo(joined(causal(q, k, v, v.shape[3] ** 0.5))), (k, v)


class MLP(nn.Module):
    """Wdown(s_u Wup x * silu(s_v sqrt(width) Wgate x))."""

    def __init__(self, root: float, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.Wup, self.Wgate, self.Wdown = (Linear(weights, f"mlp.{name}") for name in ("Wup", "Wgate", "Wdown"))
        self.u, self.v = nn.Parameter(weights["mlp.s_u.s"]), nn.Parameter(weights["mlp.s_v.s"])
        self.act, self.root = nn.SiLU(), root

    def forward(self, x: Tensor) -> Tensor:
        u, g = (self.Wup(x) * self.u).type_as(x), (self.Wgate(x) * (self.v * self.root)).type_as(x)
        found: Tensor = self.Wdown(u * self.act(g))
        return found


class Layer(nn.Module):
    """Attention, then MLP, each a step unit(x + alpha 0.05 sqrt(width) (unit(y) - x))."""

    def __init__(self, root: float, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.attn, self.mlp, self.root = Attention(root, weights), MLP(root, weights), root
        self.alpha_A, self.alpha_M = (nn.Parameter(weights[f"alpha_{name}.s"]) for name in "AM")

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], cache: Cache | None, layer: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, kept = self.attn(x, turn=turn, cache=cache, layer=layer)
        x = self.step(x, y, self.alpha_A)
        return self.step(x, self.mlp(x), self.alpha_M), kept

    def step(self, x: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
        """The stream after a branch."""
        return unit(wide(x) + alpha * (0.05 * self.root) * (unit(y) - wide(x))).type_as(x)


class EvintunadorNGPT(Reference):
    """The model, from a config and the weights under their own names."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        rows, head_dim = weights["token_embedder.weight"], config["dim"] // config["num_heads"]
        self.config = config_of(len(rows), config["max_seq_len"], model_type="ngpt-evintunador")
        self.token_embedder, root = embedding(rows), config["dim"] ** 0.5
        starts = [f"layers.{i}." for i in range(config["num_layers"])]
        own = [{key.removeprefix(start): w for key, w in weights.items() if key.startswith(start)} for start in starts]
        self.layers = nn.ModuleList(Layer(root, layer) for layer in own)
        self.output = Linear(weights, "output")
        self.frequencies = reciprocal(head_dim, config.get("theta", 10000.0))  # no buffer: it stays in float32

    def forward(self, input_ids: Tensor, past_key_values: Cache | None = None, use_cache: bool = False) -> Output:
        start = past_key_values[0][0].shape[2] if past_key_values else 0
        x, kept = self.token_embedder(input_ids), []
        angles = positions(input_ids.shape[1], start, self.frequencies, x)
        turn = angles.cos(), angles.sin()
        for i, layer in enumerate(self.layers):
            x, pair = layer(x, turn, past_key_values, i)
            kept.append(pair)
        return Output(self.output(x), kept)
