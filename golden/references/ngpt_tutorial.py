"""nGPT as its tutorial has it (the last listing): attention without a softmax, in which later keys score -1e8.

Every position but the last attends to the negative sum of the values after it, so there is no cache. `S_uv` is stored
and has no effect. A model that was built on a GPU has no learned rates: they are 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golden.errors import FolderError
from golden.references.base import Cache, Linear, Output, Reference, config_of, embedding, unwrapped
from golden.references.sphere import cast, joined, n, positions, split, wide

LATER = -1e8
NO_HALF = "scores of -1e8 are beyond the range of float16; the model runs in bfloat16, float32 and float64"


def is_state_dict(stored: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the tutorial's names."""
    return "decoders.0.atten.S_qk" in unwrapped(stored)


def shapes(width: int, vocab: int, layers: int, rates: bool = True) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a state dict, in its order; `rates`: with those of `lr_atten` and `lr_mlp`."""
    found: dict[str, tuple[int, ...]] = {"embedding_layer.weight": (vocab, width)}
    for i in range(layers):
        if rates:
            found |= {f"decoders.{i}.{name}": (width,) for name in ("lr_atten", "lr_mlp")}
        found |= {f"decoders.{i}.atten.S_qk": (width,)}
        found |= {f"decoders.{i}.atten.{name}.weight": (width, width) for name in "qkvo"}
        found |= {f"decoders.{i}.mlp.S_uv": (8 * width,)}
        found |= {
            f"decoders.{i}.mlp.fc1.weight": (8 * width, width),
            f"decoders.{i}.mlp.fc2.weight": (width, 4 * width),
        }
    return found | {"outlayer.weight": (vocab, width), "outlayer.bias": (vocab,)}


def built(n_head: int, stored: Mapping[str, Tensor], dtype: torch.dtype) -> TutorialNGPT:
    """The model of a state dict, whatever wraps its keys.

    Raises:
        FolderError: float16 was asked for.
    """
    if dtype is torch.float16:
        raise FolderError(f"an nGPT of the tutorial cannot run in float16: {NO_HALF}")
    return TutorialNGPT(n_head, cast(unwrapped(stored), dtype)).eval()


def frequencies(head_dim: int) -> Tensor:
    """10000 ** (-2i / head_dim), (head_dim / 2,), float32, made by one power."""
    return torch.pow(10000.0, -2.0 * torch.arange(head_dim // 2, dtype=torch.float32) / head_dim)


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """(batch, heads, tokens, head_dim), each pair (2i, 2i + 1) rotated by its angle; as `wide`."""
    even, odd = wide(x[..., 0::2]), wide(x[..., 1::2])
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Attention(nn.Module):
    """o(scores v), the scores being sqrt(head_dim) q k for keys so far and -1e8 for later ones."""

    def __init__(self, n_head: int, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.n_head = n_head
        self.q, self.k, self.v, self.o = (Linear(weights, f"atten.{name}") for name in "qkvo")
        self.S_qk = nn.Parameter(weights["atten.S_qk"])

    def forward(self, x: Tensor, *, angles: Tensor) -> Tensor:
        q, k, v = (split(part(x), self.n_head) for part in (self.q, self.k, self.v))
        s = self.S_qk.view(self.n_head, 1, -1)
        q, k = (s * n(turned(part, angles)) for part in (q, k))
        scores = q.type_as(v) @ k.type_as(v).transpose(2, 3) * v.shape[3] ** 0.5  # (batch, heads, tokens, tokens)
        later = torch.ones(scores.shape[2:], dtype=torch.bool).triu(1)
        found: Tensor = self.o(joined(scores.masked_fill(later, LATER) @ v))
        return found


class MLP(nn.Module):
    """fc2(u * silu(g)), u and g being the halves of fc1 x."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.fc1, self.fc2, self.act = Linear(weights, "mlp.fc1"), Linear(weights, "mlp.fc2"), nn.SiLU()
        self.S_uv = nn.Parameter(weights["mlp.S_uv"])  # of no effect

    def forward(self, x: Tensor) -> Tensor:
        u, g = self.fc1(x).chunk(2, dim=-1)
        found: Tensor = self.fc2(u * self.act(g))
        return found


class Decoder(nn.Module):
    """x = n(n(x) + |lr_atten| n(atten(x))), then x = n(x + |lr_mlp| n(mlp(x)))."""

    def __init__(self, n_head: int, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.atten, self.mlp = Attention(n_head, weights), MLP(weights)
        ones = torch.ones_like(weights["atten.S_qk"])
        self.lr_atten = nn.Parameter(weights.get("lr_atten", ones))
        self.lr_mlp = nn.Parameter(weights.get("lr_mlp", ones))

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        x = n(n(x) + self.lr_atten.abs() * n(self.atten(x, angles=angles))).type_as(x)
        return n(wide(x) + self.lr_mlp.abs() * n(self.mlp(x))).type_as(x)


class TutorialNGPT(Reference):
    """The model, from weights under the tutorial's names."""

    def __init__(self, n_head: int, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        rows = weights["embedding_layer.weight"]
        self.config = config_of(len(rows), 0, model_type="ngpt-tutorial")
        self.embedding_layer = embedding(rows)
        layers = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("decoders."))
        starts = [f"decoders.{i}." for i in range(layers)]
        own = [{key.removeprefix(start): w for key, w in weights.items() if key.startswith(start)} for start in starts]
        self.decoders = nn.ModuleList(Decoder(n_head, layer) for layer in own)
        self.outlayer = Linear(weights, "outlayer")
        self.frequencies = frequencies(rows.shape[1] // n_head)  # no buffer: it stays in float32

    def forward(self, input_ids: Tensor, past_key_values: Cache | None = None, use_cache: bool = False) -> Output:
        x = self.embedding_layer(input_ids)
        angles = positions(input_ids.shape[1], 0, self.frequencies, x)
        for decoder in self.decoders:
            x = decoder(x, angles)
        return Output(F.linear(x, self.outlayer.weight, self.outlayer.bias), None)
