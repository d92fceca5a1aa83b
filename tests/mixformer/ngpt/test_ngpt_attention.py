"""nGPT under every backend, padded, packed, cached, generated from, and in low precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from mixformer.blocks.mixers import masked_linear
from mixformer.blocks.mixers.masked_linear import MaskedLinearAttention, kernel_obstacle
from mixformer.errors import AttentionBackendError, InputError

CLOSE = 1e-12


@torch.no_grad()
def logits_of(model: nn.Module, ids: Tensor, **kwargs: Any) -> Tensor:
    return model(ids, **kwargs).logits


def distance(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).pow(2).mean().sqrt() / truth.std())


def hot(dialect: Any, sizes: Any) -> nn.Module:
    return dialect.model(dialect.hot(sizes()), sizes())


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(1, 32, (3, 11))


def test_sdpa_equals_eager(dialect: Any, sizes: Any, ids: Tensor) -> None:
    model, found = hot(dialect, sizes), []
    mask = torch.ones_like(ids)
    mask[0, :3] = mask[1, 8:] = 0
    for attn in ("eager", "sdpa"):
        model.set_attn_implementation(attn)
        found.append((logits_of(model, ids), logits_of(model, ids, attention_mask=mask)[mask.bool()]))
    assert distance(found[1][0], found[0][0]) < CLOSE
    assert distance(found[1][1], found[0][1]) < CLOSE


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_a_padded_row_equals_the_row_alone(dialect: Any, sizes: Any, ids: Tensor, side: str, attn: str) -> None:
    model = hot(dialect, sizes)
    model.set_attn_implementation(attn)
    row = ids[:1, :6]
    left = {"left": 5, "right": 0, "both": 2}[side]
    padded, mask = ids.clone(), torch.ones_like(ids)
    padded[0], mask[0] = 0, 0
    padded[0, left : left + 6], mask[0, left : left + 6] = row[0], 1
    found = logits_of(model, padded, attention_mask=mask)
    assert bool(found.isfinite().all())
    assert distance(found[0, left : left + 6], logits_of(model, row)[0]) < CLOSE
    assert distance(found[1], logits_of(model, ids[1:2])[0]) < CLOSE


def test_padding_that_counted_as_later_keys_would_be_seen(
    tutorial: Any, sizes: Any, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hot(tutorial, sizes)
    truth, mask = logits_of(model, ids[:1, :6]), torch.ones(1, 11, dtype=torch.long)
    mask[0, 6:] = 0
    assert distance(logits_of(model, ids[:1], attention_mask=mask)[:, :6], truth) < CLOSE
    masks = MaskedLinearAttention._masks
    monkeypatch.setattr(MaskedLinearAttention, "_masks", lambda *args: (masks(*args)[0], None))
    assert distance(logits_of(model, ids[:1], attention_mask=mask)[:, :6], truth) > 1e-2


def test_a_norm_that_divides_by_nothing_would_be_seen(
    ngpt: Any, sizes: Any, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unguarded(x: Tensor, eps: float = 0.0) -> Tensor:
        return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)

    monkeypatch.setattr("mixformer.blocks.ngpt.unit", unguarded)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    assert bool(logits_of(hot(ngpt, sizes), ids, attention_mask=mask).isnan().any())


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
def test_packed_samples_equal_their_own_rows(ngpt: Any, sizes: Any, ids: Tensor, attn: str) -> None:
    model = hot(ngpt, sizes)
    model.set_attn_implementation(attn)
    packed = ids[:1]
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6]])
    bounds = torch.tensor([0, 4, 11], dtype=torch.int32)
    found = logits_of(model, packed, cu_seqlens=bounds, position_ids=positions)
    assert distance(found[:, :4], logits_of(model, packed[:, :4])) < CLOSE
    assert distance(found[:, 4:], logits_of(model, packed[:, 4:])) < CLOSE


@pytest.mark.parametrize("name", ["nvidia", "nvidia with biases", "use_nGPT 0"])
@pytest.mark.parametrize("chunks", [[11], [10, 1], [4, 3, 4], [1] * 11])
def test_cached_equals_full(dialects: Any, sizes: Any, ids: Tensor, name: str, chunks: list[int]) -> None:
    model = hot(dialects[name], sizes)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    full, cache, found = logits_of(model, ids, attention_mask=mask), None, []
    for end in torch.tensor(chunks).cumsum(0).tolist():
        start = sum(part.shape[1] for part in found)
        with torch.no_grad():
            out = model(ids[:, start:end], attention_mask=mask[:, :end], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        found.append(out.logits)
    assert distance(torch.cat(found, dim=1)[mask.bool()], full[mask.bool()]) < CLOSE


def test_the_tutorial_has_no_cache(tutorial: Any, sizes: Any, ids: Tensor) -> None:
    model = hot(tutorial, sizes)
    assert model(ids, use_cache=True).past_key_values is None
    with pytest.raises(InputError, match="cannot decode onto a cache"):
        model(ids, past_key_values=DynamicCache())


def test_generation_equals_full_passes(ngpt: Any, sizes: Any, ids: Tensor) -> None:
    model = hot(ngpt, sizes)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    found = model.generate(ids, attention_mask=mask, max_new_tokens=7, do_sample=False, pad_token_id=0)
    for row, kept in zip(range(3), mask.bool(), strict=True):
        text = ids[row][kept]
        for _ in range(7):
            text = torch.cat((text, logits_of(model, text[None])[0, -1:].argmax(-1)))
        assert torch.equal(found[row][int((~kept).sum()) :], text)


def test_flash_is_refused_with_the_reason(tutorial: Any, sizes: Any, ids: Tensor) -> None:
    model = hot(tutorial, sizes).bfloat16()
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(AttentionBackendError, match="no softmax"):
        model(ids)
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(AttentionBackendError, match="must be one of"):
        model(ids)


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
def test_float16_is_refused_with_the_reason(tutorial: Any, sizes: Any, ids: Tensor, attn: str) -> None:
    model = hot(tutorial, sizes).half()
    model.set_attn_implementation(attn)
    with pytest.raises(AttentionBackendError, match="range of float16"):
        model(ids)


def test_obstacles_are_known_without_running(tutorial: Any, nvidia: Any, sizes: Any) -> None:
    config = hot(tutorial, sizes).config
    assert kernel_obstacle(config, "sdpa", torch.float16) == masked_linear.NO_HALF
    assert kernel_obstacle(config, "flash_attention_2", torch.bfloat16) == masked_linear.NO_FLASH
    assert kernel_obstacle(config, "eager", torch.bfloat16) is None
    other = hot(nvidia, sizes).config
    assert kernel_obstacle(other, "flash_attention_2", torch.float16) is None
    config.architecture = [other.architecture, config.architecture]
    assert kernel_obstacle(config, "sdpa", torch.float16) == masked_linear.NO_HALF


@pytest.mark.parametrize(("dtype", "floor"), [(torch.float32, 1e-5), (torch.bfloat16, 0.2), (torch.float16, 2e-2)])
def test_low_precision_is_near(dialect: Any, sizes: Any, ids: Tensor, dtype: torch.dtype, floor: float) -> None:
    if dialect.name == "tutorial" and dtype == torch.float16:
        pytest.skip("refused, see above")
    model = hot(dialect, sizes)
    truth = logits_of(model, ids)
    found = logits_of(model.to(dtype), ids)
    assert found.dtype == dtype
    assert 0 < distance(found.double(), truth) < floor


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_are_those_of_the_formula(
    ngpt: Any, sizes: Any, ids: Tensor, recompute: bool, checkpoint_activations: Callable[..., None]
) -> None:
    size = sizes()
    tensors = ngpt.hot(size)
    model = ngpt.model(tensors, size).train()
    if recompute:
        checkpoint_activations(model)
    model(ids[:1]).logits.pow(2).sum().backward()
    expected = {key: tensor.clone().requires_grad_() for key, tensor in tensors.items()}
    ngpt.logits(expected, ids[0], size).pow(2).sum().backward()
    grads = {key: torch.zeros_like(t) if t.grad is None else t.grad for key, t in expected.items()}
    for key, grad in ngpt.ours(grads, size).items():
        found = dict(model.named_parameters()).get(key)
        if found is not None:
            assert torch.allclose(found.grad, grad, rtol=1e-8, atol=1e-8), key


def test_compiled_equals_eager(ngpt: Any, sizes: Any, ids: Tensor) -> None:
    model = hot(ngpt, sizes)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    found = logits_of(compiled, ids, attention_mask=mask, use_cache=False)
    assert torch.equal(found, logits_of(model, ids, attention_mask=mask, use_cache=False))
