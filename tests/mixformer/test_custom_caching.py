"""Which custom mixers decode onto a cache, how a wrong guess is noticed, and who appends to which of its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from mixformer import MixFormerError, MixFormerSequentialForCausalLM
from mixformer.blocks.mixers import MIXERS
from mixformer.blocks.mixers.mha import MHA

Build = Callable[..., MixFormerSequentialForCausalLM]

S, LIMIT = 14, 1e-10


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 61, (2, S))


class Deaf(nn.Module):
    """A mixer around `MHA` that takes everything and hands on nothing."""

    def __init__(self, config: Any, layer_idx: int | None = None) -> None:
        super().__init__()
        self.mha = MHA(config, layer_idx=layer_idx)

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        return self.mha(x)


@torch.no_grad()
def test_a_cache_that_no_attention_got_is_not_returned_and_refused(
    build: Build, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MIXERS, "deaf", Deaf)
    deaf = build(architecture={"mixer": {"mixer_cls": "deaf"}})
    assert deaf(ids, use_cache=True).past_key_values is None
    with pytest.raises(MixFormerError, match="layer 0 of past_key_values was not filled"):
        deaf(ids, past_key_values=DynamicCache())
    assert deaf.generate(ids, max_new_tokens=2, use_cache=False, pad_token_id=0).shape == (2, S + 2)


class Conv(nn.Module):
    def __init__(self, config: Any, layer_idx: int | None = None, attends: bool = False) -> None:
        super().__init__()
        self.mha = MHA(config, layer_idx=layer_idx) if attends else nn.Identity()
        self.conv = nn.Conv1d(config.n_embd, config.n_embd, 3, padding=2)

    def forward(self, x: Tensor, past_key_values: Any = None, **kwargs: Any) -> Tensor:
        mixed = self.mha(x, past_key_values=past_key_values, **kwargs) if isinstance(self.mha, MHA) else x
        return self.conv(mixed.transpose(1, 2)).transpose(1, 2)[:, : x.shape[1]]


@torch.no_grad()
@pytest.mark.parametrize("attends", [False, True])
@pytest.mark.parametrize("block", ["parallel", "sequential"])
def test_a_convolution_is_not_taken_to_decode_onto_a_cache(
    build: Build, ids: Tensor, monkeypatch: pytest.MonkeyPatch, block: str, attends: bool
) -> None:
    monkeypatch.setitem(MIXERS, "conv", Conv)
    model = build(architecture={"block_cls": block, "mixer": {"mixer_cls": "conv", "attends": attends}})
    assert not model.supports_cache
    assert model(ids, use_cache=True).past_key_values is None
    monkeypatch.setattr(Conv, "supports_cache", True, raising=False)
    assert build(architecture={"block_cls": block, "mixer": {"mixer_cls": "conv"}}).supports_cache


class OwnCache(nn.Module):
    """Attention of its own, that keeps keys under the number of its block, as the SDK's mixers do."""

    def __init__(self, config: Any, layer_idx: int | None = None) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.value = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def forward(self, x: Tensor, past_key_values: Any = None) -> Tensor:
        values, queries = self.value(x)[:, None], x.shape[1]
        if past_key_values is not None:
            values, _ = past_key_values.update(values, values, self.layer_idx)
        sums = values[:, 0].cumsum(1) / torch.arange(1, values.shape[2] + 1, dtype=x.dtype)[:, None]
        return sums[:, -queries:]


@torch.no_grad()
@pytest.mark.parametrize("order", [["own", "mha", "mha"], ["mha", "own", "mha"], ["mha", "mha", "own"]], ids=str)
def test_attentions_of_two_kinds_share_a_cache(
    build: Build, ids: Tensor, monkeypatch: pytest.MonkeyPatch, order: list[str]
) -> None:
    monkeypatch.setitem(MIXERS, "own", OwnCache)
    model = build(architecture=[{"mixer": {"mixer_cls": name}} for name in order])
    cache = DynamicCache()
    found = [model(chunk, past_key_values=cache).logits for chunk in ids.split((6, 1, 4, 3), dim=1)]
    assert (torch.cat(found, dim=1) - model(ids, use_cache=False).logits).abs().max() <= LIMIT
    assert len(cache.layers) == 3
