"""nGPT of lucidrains (`nGPT` of nGPT-pytorch 0.2.16) with its defaults, tied or untied, parametrised or not.

A parametrised matrix is divided by the lengths of its rows when it is used, one that leads back to the stream by those
of its columns. Whether later layers take the values of the first is said beside the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from converters.plan.baking import BAKE
from golden.references.base import Cache, Output, Reference, config_of, embedding, extended, unwrapped
from golden.references.sphere import cast, causal, joined, neighbours_turned, positions, reciprocal, split, wide

ORIGINAL, FREQUENCIES = "parametrizations.weight.original", "rotary_embed.freqs"


def is_state_dict(stored: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has these names."""
    return "layers.0.0.fn.qk_scale.scale" in unwrapped(stored)


def shapes(fields: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the state dict of some sizes, without its frequencies."""
    d, vocab, mlp = fields["n_embd"], fields["vocab_size"], fields["n_inner"]
    inner, end = fields["n_head"] * fields["head_dim"], ORIGINAL if fields["parametrized"] else "weight"
    layer: dict[str, tuple[int, ...]] = {f"0.fn.to_{name}.linear.{end}": (inner, d) for name in "qkv"}
    layer |= {f"0.fn.to_out.linear.{end}": (d, inner), "0.fn.qk_scale.scale": (inner,), "0.branch_scale.scale": (d,)}
    layer |= {f"1.fn.to_{name}.linear.{end}": (mlp, d) for name in ("hidden", "gate")}
    layer |= {f"1.fn.to_out.linear.{end}": (d, mlp), "1.branch_scale.scale": (d,)}
    layer |= {f"1.fn.{name}_scale.scale": (mlp,) for name in ("hidden", "gate")}
    found: dict[str, tuple[int, ...]] = {f"token_embed.linear.{end}": (vocab, d), "logit_scale.scale": (vocab,)}
    for i in range(fields["n_layer"]):
        found |= {f"layers.{i}.{key}": shape for key, shape in layer.items()}
    return found if fields["tie_word_embeddings"] else found | {f"to_logits.linear.{end}": (vocab, d)}


def built(config: Mapping[str, Any], stored: Mapping[str, Tensor], dtype: torch.dtype) -> LucidrainsNGPT:
    """The model of a state dict, whatever wraps its keys; `value_residual` of the config, sizes from the shapes."""
    weights = unwrapped(stored)
    head_dim = 2 * len(weights[FREQUENCIES]) if FREQUENCIES in weights else int(config["head_dim"])
    if BAKE.get():
        weights = dict(map(baked, weights.items()))
    kept = {key: weight for key, weight in weights.items() if key != FREQUENCIES}
    return LucidrainsNGPT(bool(config["value_residual"]), head_dim, cast(kept, dtype)).eval()


def baked(item: tuple[str, Tensor]) -> tuple[str, Tensor]:
    """A parametrised matrix as it is used, by the key of one that is not, in its stored dtype; others as they are."""
    key, weight = item
    if not key.endswith(ORIGINAL):
        return item
    used = F.normalize(weight.double(), dim=0 if ".to_out." in key else -1)
    return key.replace(ORIGINAL, "weight"), used.to(weight.dtype)


class NormLinear(nn.Module):
    """A matrix (outputs, inputs), used as it is stored or with vectors along `dim` of length 1."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, dim: int = -1) -> None:
        super().__init__()
        self.parametrised, self.dim = f"{name}.linear.{ORIGINAL}" in weights, dim
        stored = weights[f"{name}.linear.{ORIGINAL if self.parametrised else 'weight'}"]
        self.table = embedding(stored)  # of tokens, where it is that

    @property
    def weight(self) -> Tensor:
        """The matrix that is used."""
        weight = self.table.weight
        return F.normalize(wide(weight), dim=self.dim).type_as(weight) if self.parametrised else weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Attention(nn.Module):
    """to_out(softmax(sqrt(head_dim) q k) v), q being scaled by qk_scale * width; both of length 1 after their turn."""

    def __init__(self, head_dim: int, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.to_q, self.to_k, self.to_v = (NormLinear(weights, f"0.fn.to_{name}") for name in "qkv")
        self.to_out = NormLinear(weights, "0.fn.to_out", dim=0)
        self.scale = nn.Parameter(weights["0.fn.qk_scale.scale"])

    def forward(
        self, x: Tensor, *, angles: Tensor, first: Tensor | None, cache: Cache | None, layer: int
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        heads = len(self.scale) // self.head_dim
        q, k, v = (split(part(x), heads) for part in (self.to_q, self.to_k, self.to_v))
        v = v if first is None else 0.5 * (v + first)
        q, k = (F.normalize(neighbours_turned(part, angles), dim=-1) for part in (q, k))
        q = q * (self.scale * x.shape[-1]).view(heads, 1, -1)
        every_k, every_v = extended(cache, layer, k.type_as(v), v)
        out = causal(q.type_as(v), every_k, every_v, self.head_dim**0.5)
        return self.to_out(joined(out)), v, (every_k, every_v)


class FeedForward(nn.Module):
    """to_out(silu(gate_scale sqrt(width) to_gate x) * (hidden_scale to_hidden x))."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.to_hidden, self.to_gate = (NormLinear(weights, f"1.fn.to_{name}") for name in ("hidden", "gate"))
        self.to_out, self.act = NormLinear(weights, "1.fn.to_out", dim=0), nn.SiLU()
        self.hidden, self.gate = (nn.Parameter(weights[f"1.fn.{name}_scale.scale"]) for name in ("hidden", "gate"))

    def forward(self, x: Tensor) -> Tensor:
        hidden = (self.to_hidden(x) * self.hidden).type_as(x)
        gate = (self.to_gate(x) * self.gate * x.shape[-1] ** 0.5).type_as(x)
        found: Tensor = self.to_out(self.act(gate) * hidden)
        return found


class Layer(nn.Module):
    """Attention, then feed-forward; x = normalize(lerp(x, normalize(y), rate)), the rate with its sign."""

    def __init__(self, layers: int, head_dim: int, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.attn, self.mlp, self.layers = Attention(head_dim, weights), FeedForward(weights), layers
        self.attn_rate, self.mlp_rate = (nn.Parameter(weights[f"{k}.branch_scale.scale"]) for k in (0, 1))

    def forward(
        self, x: Tensor, angles: Tensor, first: Tensor | None, cache: Cache | None, layer: int
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        y, values, kept = self.attn(x, angles=angles, first=first, cache=cache, layer=layer)
        x = self.step(x, y, self.attn_rate)
        return self.step(x, self.mlp(x), self.mlp_rate), values, kept

    def step(self, x: Tensor, y: Tensor, rate: Tensor) -> Tensor:
        """The stream after a branch; rates are 1 / layers at first, when the tensor is 1 / sqrt(width)."""
        rate = rate * (x.shape[-1] ** 0.5 / self.layers)
        return F.normalize(torch.lerp(wide(x), F.normalize(wide(y), dim=-1), rate), dim=-1).type_as(x)


class LucidrainsNGPT(Reference):
    """The model, from the weights under their own names."""

    def __init__(self, value_residual: bool, head_dim: int, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.value_residual, self.token_embed = value_residual, NormLinear(weights, "token_embed")
        self.config = config_of(self.token_embed.table.num_embeddings, 0, model_type="ngpt-lucidrains")
        count = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("layers."))
        starts = [f"layers.{i}." for i in range(count)]
        own = [{key.removeprefix(start): w for key, w in weights.items() if key.startswith(start)} for start in starts]
        self.layers = nn.ModuleList(Layer(count, head_dim, layer) for layer in own)
        untied = any(key.startswith("to_logits.") for key in weights)
        self.to_logits = NormLinear(weights, "to_logits") if untied else None
        self.scale = nn.Parameter(weights["logit_scale.scale"])
        self.frequencies = reciprocal(head_dim)  # no buffer: it stays in float32

    def forward(self, input_ids: Tensor, past_key_values: Cache | None = None, use_cache: bool = False) -> Output:
        start = past_key_values[0][0].shape[2] if past_key_values else 0
        x, kept = self._rows(input_ids), []
        angles, first = positions(input_ids.shape[1], start, self.frequencies, x), None
        for i, layer in enumerate(self.layers):
            x, values, pair = layer(x, angles, first if self.value_residual else None, past_key_values, i)
            first = values if first is None else first
            kept.append(pair)
        logits: Tensor = (self.to_logits or self.token_embed)(x)
        return Output((logits * (self.scale * x.shape[-1] ** 0.5)).type_as(logits), kept)

    def _rows(self, input_ids: Tensor) -> Tensor:
        rows = self.token_embed.table(input_ids)
        return F.normalize(wide(rows), dim=-1).type_as(rows) if self.token_embed.parametrised else rows
