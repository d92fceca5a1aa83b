"""nGPT of OLMo-core (`NormalizedTransformer` of ai2-olmo-core 3.0.0), MHA and GQA.

OLMo-core takes every length in float32, also in a model in float64. Here lengths have the dtype of all that follows, so
that the two agree in float32 and this one can judge to the last bits of float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from golden.references.base import Cache, Linear, Output, Reference, config_of, embedding, extended, unwrapped
from golden.references.sphere import cast, causal, halves_turned, joined, n, positions, reciprocal, split


def model_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The object under `model` of config.json, from arguments of OLMo-core's `ngpt_like` and `hidden_size`."""
    attention = {
        "name": "normalized",
        "n_heads": fields["n_heads"],
        "rope": {"name": "default", "theta": fields["rope_theta"], "full_precision": True},
        "qk_norm": {"name": "l2_norm"},
    }
    if fields["n_kv_heads"] is not None:
        attention["n_kv_heads"] = fields["n_kv_heads"]
    block = {
        "name": "normalized",
        "sequence_mixer": attention,
        "feed_forward": {"name": "normalized", "hidden_size": fields["hidden_size"]},
    }
    sizes = {name: fields[name] for name in ("d_model", "vocab_size", "n_layers")}
    return {**sizes, "block": block, "lm_head": {"name": "normalized"}, "name": "normalized", "dtype": "float32"}


def shapes(fields: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the state dict of these arguments."""
    d, vocab, inner = fields["d_model"], fields["vocab_size"], fields["hidden_size"]
    kv = (fields["n_kv_heads"] or fields["n_heads"]) * (d // fields["n_heads"])
    found: dict[str, tuple[int, ...]] = {"embeddings.weight": (vocab, d)}
    layer: dict[str, tuple[int, ...]] = {"attn_alpha": (d,), "mlp_alpha": (d,)}
    layer |= {"attention.sq": (d,), "attention.sk": (kv,), "attention.w_out.weight": (d, d)}
    layer |= {f"attention.w_{name}.weight": (rows, d) for name, rows in (("q", d), ("k", kv), ("v", kv))}
    layer |= {"feed_forward.sw1": (inner,), "feed_forward.sw3": (inner,), "feed_forward.w2.weight": (d, inner)}
    layer |= {f"feed_forward.{name}.weight": (inner, d) for name in ("w1", "w3")}
    for i in range(fields["n_layers"]):
        found |= {f"blocks.{i}.{key}": shape for key, shape in layer.items()}
    return found | {"lm_head.sz": (vocab,), "lm_head.w_out.weight": (vocab, d)}


def built(config: Mapping[str, Any], stored: Mapping[str, Tensor], dtype: torch.dtype) -> OlmoNGPT:
    """The model of a config.json and a state dict, whatever wraps its keys."""
    return OlmoNGPT(config["model"], cast(unwrapped(stored), dtype)).eval()


class Attention(nn.Module):
    """w_out(softmax(sqrt(head_dim) q k) v); q = turned(sq sqrt(width) n(w_q x)), the length being that of all heads."""

    def __init__(self, said: Mapping[str, Any], root: float, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.n_heads, self.root = said["n_heads"], root
        self.n_kv_heads = said.get("n_kv_heads") or self.n_heads
        self.w_q, self.w_k, self.w_v, self.w_out = (
            Linear(weights, f"attention.w_{name}") for name in ("q", "k", "v", "out")
        )
        self.sq, self.sk = nn.Parameter(weights["attention.sq"]), nn.Parameter(weights["attention.sk"])

    def forward(
        self, x: Tensor, *, turn: tuple[Tensor, Tensor], cache: Cache | None, layer: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q = split(self.sq * self.root * n(self.w_q(x)), self.n_heads)
        k = split(self.sk * self.root * n(self.w_k(x)), self.n_kv_heads)
        v = split(self.w_v(x), self.n_kv_heads)
        q, k = (halves_turned(part, *turn).type_as(v) for part in (q, k))
        k, v = extended(cache, layer, k, v)
        shared = self.n_heads // self.n_kv_heads
        every_k, every_v = (part.repeat_interleave(shared, 1) for part in (k, v))
        return self.w_out(joined(causal(q, every_k, every_v, q.shape[3] ** 0.5))), (k, v)


class FeedForward(nn.Module):
    """w2(silu(sw1 sqrt(width) w1 x) * (sw3 w3 x)): w1 makes the gate."""

    def __init__(self, root: float, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.root, self.act = root, nn.SiLU()
        self.w1, self.w2, self.w3 = (Linear(weights, f"feed_forward.{name}") for name in ("w1", "w2", "w3"))
        self.sw1, self.sw3 = (nn.Parameter(weights[f"feed_forward.{name}"]) for name in ("sw1", "sw3"))

    def forward(self, x: Tensor) -> Tensor:
        gate = (self.sw1 * self.root * self.w1(x)).type_as(x)
        found: Tensor = self.w2(self.act(gate) * (self.sw3 * self.w3(x)).type_as(x))
        return found


class Block(nn.Module):
    """Attention, then MLP, each a step n(x + |alpha 0.05 sqrt(width)| (n(y) - x))."""

    def __init__(self, said: Mapping[str, Any], root: float, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.attention, self.feed_forward, self.root = Attention(said, root, weights), FeedForward(root, weights), root
        self.attn_alpha, self.mlp_alpha = (nn.Parameter(weights[f"{name}_alpha"]) for name in ("attn", "mlp"))

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], cache: Cache | None, layer: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, kept = self.attention(x, turn=turn, cache=cache, layer=layer)
        x = self.step(x, y, self.attn_alpha)
        return self.step(x, self.feed_forward(x), self.mlp_alpha), kept

    def step(self, x: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
        """The stream after a branch."""
        return n(torch.lerp(x.type_as(n(y)), n(y), (alpha * (0.05 * self.root)).abs().type_as(n(y)))).type_as(x)


class OlmoNGPT(Reference):
    """The model, from the object under `model` and the weights under their own names."""

    def __init__(self, model: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        said = model["block"].get("sequence_mixer") or model["block"]["attention"]
        rows = weights["embeddings.weight"]
        self.config = config_of(len(rows), 0, model_type="ngpt-olmo")
        self.root, self.embeddings = model["d_model"] ** 0.5, embedding(rows)
        starts = [f"blocks.{i}." for i in range(model["n_layers"])]
        own = [{key.removeprefix(start): w for key, w in weights.items() if key.startswith(start)} for start in starts]
        self.blocks = nn.ModuleList(Block(said, self.root, layer) for layer in own)
        self.w_out, self.sz = Linear(weights, "lm_head.w_out"), nn.Parameter(weights["lm_head.sz"])
        head_dim = model["d_model"] // said["n_heads"]
        self.frequencies = reciprocal(head_dim, said["rope"]["theta"])  # no buffer: it stays in float32

    def forward(self, input_ids: Tensor, past_key_values: Cache | None = None, use_cache: bool = False) -> Output:
        start = past_key_values[0][0].shape[2] if past_key_values else 0
        x, kept = self.embeddings(input_ids), []
        angles = positions(input_ids.shape[1], start, self.frequencies, x)
        turn = angles.cos(), angles.sin()
        for i, block in enumerate(self.blocks):
            x, pair = block(x, turn, past_key_values, i)
            kept.append(pair)
        logits: Tensor = self.w_out(x)
        return Output((logits * (self.sz * self.root)).type_as(logits), kept)
