"""nGPT in the style of Hugging Face (`modeling_ngpt.py` of JoeLi12345/nGPT, with its copy of torchtune's rotary code).

Learned positions are added to embeddings, and queries and keys turn besides. The code hands sqrt(head_dim) to
transformers' attention under a name that it ignores, so scores are divided by sqrt(head_dim). `lm_head` shares its
storage with the embedding and is not used; the head is `lm_head_2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from golden.references.base import Cache, Output, Reference, config_of, embedding, extended, unwrapped
from golden.references.sphere import cast, causal, joined, n, neighbours_turned, positions, reciprocal, split

CLASS = "NgptLMHeadModel"


def inner_width(config: Mapping[str, Any]) -> int:
    """Of the MLP: what the config says, or 8/3 of the width."""
    return int(config.get("n_inner") or 8 * config["n_embd"] // 3)


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the state dict of a config; `Conv1D` stores (inputs, outputs)."""
    d, vocab, inner = config["n_embd"], config["vocab_size"], inner_width(config)
    found: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (vocab, d),
        "transformer.wpe.weight": (config["n_positions"], d),
    }
    matrices = {"attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d), "mlp.c_fc": (d, 2 * inner), "mlp.c_proj": (inner, d)}
    vectors = {"attn.sqk": d, "mlp.su": inner, "mlp.sv": inner, "attn_alpha": d, "mlp_alpha": d}
    for i in range(config["n_layer"]):
        for name, shape in matrices.items():
            found |= {f"transformer.h.{i}.{name}.weight": shape, f"transformer.h.{i}.{name}.bias": shape[1:]}
        found |= {f"transformer.h.{i}.{name}": (size,) for name, size in vectors.items()}
    return found | {"sz": (vocab,), "lm_head_2.weight": (vocab, d)}


def built(config: Mapping[str, Any], stored: Mapping[str, Tensor], dtype: torch.dtype) -> JoeLiNGPT:
    """The model of a config and a state dict, whatever wraps its keys."""
    return JoeLiNGPT(config, cast(unwrapped(stored), dtype)).eval()


class Conv1D(nn.Module):
    """x W + b with W stored as (inputs, outputs)."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(weights[f"{name}.{end}"]) for end in ("weight", "bias"))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Attention(nn.Module):
    """c_proj(softmax(q k / sqrt(head_dim)) v) with q, k = sqk / base_scale times the turned, normalised heads."""

    def __init__(self, config: Mapping[str, Any], base_scale: float, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.n_head, self.base_scale = config["n_head"], base_scale
        self.c_attn, self.c_proj = (Conv1D(weights, f"attn.{name}") for name in ("c_attn", "c_proj"))
        self.sqk = nn.Parameter(weights["attn.sqk"])

    def forward(
        self, x: Tensor, *, angles: Tensor, cache: Cache | None, layer: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q, k, v = (split(part, self.n_head) for part in self.c_attn(x).chunk(3, dim=-1))
        s = (self.sqk * (1.0 / self.base_scale)).view(self.n_head, 1, -1)
        q, k = (s * n(neighbours_turned(part, angles)) for part in (q, k))
        k, v = extended(cache, layer, k.type_as(v), v)
        return self.c_proj(joined(causal(q.type_as(v), k, v, v.shape[3] ** -0.5))), (k, v)


class MLP(nn.Module):
    """c_proj(su u * silu(sv sqrt(width) g)), u and g being the halves of c_fc x."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.c_fc, self.c_proj, self.act = Conv1D(weights, "mlp.c_fc"), Conv1D(weights, "mlp.c_proj"), nn.SiLU()
        self.su, self.sv = nn.Parameter(weights["mlp.su"]), nn.Parameter(weights["mlp.sv"])

    def forward(self, x: Tensor) -> Tensor:
        u, g = self.c_fc(x).chunk(2, dim=-1)
        found: Tensor = self.c_proj(
            (u * self.su).type_as(x) * self.act((g * (self.sv * x.shape[-1] ** 0.5)).type_as(x))
        )
        return found


class Block(nn.Module):
    """Attention, then MLP, each a step n(n(x) + |alpha 0.05 / base_scale| (n(y) - n(x)))."""

    def __init__(self, config: Mapping[str, Any], base_scale: float, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.attn, self.mlp, self.base_scale = Attention(config, base_scale, weights), MLP(weights), base_scale
        self.attn_alpha, self.mlp_alpha = (nn.Parameter(weights[f"{name}_alpha"]) for name in ("attn", "mlp"))

    def forward(
        self, x: Tensor, angles: Tensor, cache: Cache | None, layer: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, kept = self.attn(x, angles=angles, cache=cache, layer=layer)
        x = self.step(x, y, self.attn_alpha)
        return self.step(x, self.mlp(x), self.mlp_alpha), kept

    def step(self, x: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
        """The stream after a branch."""
        rate = (alpha * (0.05 / self.base_scale)).abs()
        return n(n(x) + rate * (n(y) - n(x))).type_as(x)


class JoeLiNGPT(Reference):
    """The model, from a config and the weights under their own names."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        rows, places = weights["transformer.wte.weight"], weights["transformer.wpe.weight"]
        self.config = config_of(len(rows), len(places), model_type="ngpt")
        self.base_scale = float(config.get("base_scale") or config["n_embd"] ** -0.5)
        self.wte, self.wpe = embedding(rows), embedding(places)
        starts = [f"transformer.h.{i}." for i in range(config["n_layer"])]
        own = [{key.removeprefix(start): w for key, w in weights.items() if key.startswith(start)} for start in starts]
        self.h = nn.ModuleList(Block(config, self.base_scale, layer) for layer in own)
        self.lm_head_2, self.sz = nn.Parameter(weights["lm_head_2.weight"]), nn.Parameter(weights["sz"])
        self.frequencies = reciprocal(config["n_embd"] // config["n_head"])  # no buffer: it stays in float32

    def forward(self, input_ids: Tensor, past_key_values: Cache | None = None, use_cache: bool = False) -> Output:
        start = past_key_values[0][0].shape[2] if past_key_values else 0
        tokens, kept = input_ids.shape[1], []
        x = self.wte(input_ids) + self.wpe(torch.arange(start, start + tokens))
        angles = positions(tokens, start, self.frequencies, x)
        for i, block in enumerate(self.h):
            x, pair = block(x, angles, past_key_values, i)
            kept.append(pair)
        logits = x @ self.lm_head_2.T
        return Output((logits * (self.sz * (1.0 / self.base_scale))).type_as(logits), kept)
