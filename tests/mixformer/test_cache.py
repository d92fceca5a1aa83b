"""Decoding onto a cache equals one full pass, and so do padded and packed rows, whatever hides what from whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from mixformer import MixFormerError, MixFormerSequentialForCausalLM
from mixformer.blocks.mixers import MIXERS

Model = MixFormerSequentialForCausalLM
Build = Callable[..., Model]

S, SEPARATOR = 14, 7
LIMIT = 1e-10

MIXER_KINDS: dict[str, dict[str, Any]] = {
    "causal": {},
    "grouped": {"n_head_kv": 2, "head_dim": 12},
    "window": {"window_size": 3},
    "two-sided window": {"window_size": "(4, 2)"},
    "alibi": {"use_alibi": True, "rotary_dim": 0},
    "softcap": {"softcap": 3.0},
    "partial rotary": {"rotary_dim": 4, "rotary_base": 500.0},
    "qk_norm": {"qk_norm": True},
    "scaled": {"softmax_scale": 0.7, "scale_attn_by_inverse_layer_idx": True},
    "yarn": {"rope_scaling": {"type": "yarn"}, "rotary_scale_base": 2.0},
}

LEFT = torch.tensor([[0] * 5 + [1] * 9, [1] * 14])
RIGHT = torch.tensor([[1] * 9 + [0] * 5, [1] * 14])


def mixer(kind: str) -> dict[str, Any]:
    return {"mixer": {"mixer_cls": "mha", **MIXER_KINDS[kind]}}


@pytest.fixture
def ids() -> Tensor:
    ids = torch.randint(0, 61, (2, S))
    ids[ids == SEPARATOR] += 1
    return ids


def decode(model: Model, ids: Tensor, chunks: list[int], cache: Any, mask: Tensor | None = None, **kw: Any) -> Tensor:
    """Logits of ids fed in chunks onto a cache."""
    logits, past = [], 0
    for length in chunks:
        seen = None if mask is None else mask[:, : past + length]
        new = ids[:, past : past + length]
        extra = {key: value[:, : past + length] for key, value in kw.items()}
        logits.append(model(new, attention_mask=seen, past_key_values=cache, use_cache=True, **extra).logits)
        past += length
    return torch.cat(logits, dim=1)


def caches(model: Model) -> list[Any]:
    return [DynamicCache(), DynamicCache(config=model.config), StaticCache(config=model.config, max_cache_len=S + 4)]


@torch.no_grad()
@pytest.mark.parametrize("chunks", [[1] * S, [5, 1, 4, 4], [S - 1, 1]], ids=str)
@pytest.mark.parametrize("kind", MIXER_KINDS)
def test_decoding_onto_a_cache_equals_a_full_pass(build: Build, ids: Tensor, kind: str, chunks: list[int]) -> None:
    for embedding in ("default", "positional"):
        model = build(architecture=mixer(kind), embd_layer=embedding)
        full = model(ids, use_cache=False).logits
        for cache in caches(model):
            assert (decode(model, ids, chunks, cache) - full).abs().max() <= LIMIT


@torch.no_grad()
@pytest.mark.parametrize("mask", [LEFT, RIGHT], ids=["left", "right"])
@pytest.mark.parametrize("kind", MIXER_KINDS)
def test_padded_decoding_equals_the_rows_alone(build: Build, ids: Tensor, kind: str, mask: Tensor) -> None:
    for embedding in ("default", "positional"):
        model = build(architecture=mixer(kind), embd_layer=embedding)
        alone = [model(row[keep][None], use_cache=False).logits[0] for row, keep in zip(ids, mask.bool(), strict=True)]
        runs = [model(ids, attention_mask=mask).logits]
        runs += [decode(model, ids, [6, 1, 1, 6], cache, mask) for cache in caches(model)]
        for found in runs:
            for row, keep, expected in zip(found, mask.bool(), alone, strict=True):
                assert (row[keep] - expected).abs().max() <= LIMIT


@torch.no_grad()
@pytest.mark.parametrize("kind", MIXER_KINDS)
def test_packed_samples_equal_the_samples_alone(build: Build, ids: Tensor, kind: str) -> None:
    model = build(architecture=mixer(kind), cross_sample_token_id=SEPARATOR)
    ids[0, 4] = ids[0, 9] = ids[1, 2] = SEPARATOR
    before = ids.clone()
    found = model(ids).logits
    assert torch.equal(ids, before)
    for row, spans in enumerate([[(0, 5), (5, 10), (10, S)], [(0, 3), (3, S)]]):
        for start, end in spans:
            positions = torch.arange(start, end)[None]
            alone = model(ids[row, start:end][None], position_ids=positions).logits[0]
            assert (found[row, start:end] - alone).abs().max() <= LIMIT
    boundaries = torch.tensor([0, 5, 10, S, S + 3, 2 * S], dtype=torch.int32)
    model.config.cross_sample_token_id = None
    assert (model(ids, cu_seqlens=boundaries).logits - found).abs().max() <= LIMIT
    numbers = torch.tensor([[1] * 5 + [2] * 5 + [3] * 4, [1] * 3 + [2] * 11])
    assert (model(ids, sample_ids=numbers).logits - found).abs().max() <= LIMIT
    assert (decode(model, ids, [4, 3, 7], DynamicCache(), sample_ids=numbers) - found).abs().max() <= LIMIT
    assert (model(ids).logits - found).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("mask", [None, LEFT], ids=["whole", "padded left"])
def test_a_cache_remembers_the_samples_of_its_tokens(build: Build, ids: Tensor, mask: Tensor | None) -> None:
    model = build(cross_sample_token_id=SEPARATOR)
    ids[0, 7] = ids[1, 2] = ids[1, 8] = SEPARATOR
    kept = torch.ones_like(ids).bool() if mask is None else mask.bool()
    full = model(ids, attention_mask=mask, use_cache=False).logits
    for cache in caches(model):
        for chunks in ([1] * S, [8, 1, 5]):
            cache = type(cache)() if isinstance(cache, DynamicCache) else StaticCache(model.config, max_cache_len=S)
            assert (decode(model, ids, chunks, cache, mask) - full)[kept].abs().max() <= LIMIT


@torch.no_grad()
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("beams", [1, 3])
def test_generation_keeps_samples_apart(build: Build, ids: Tensor, use_cache: bool, beams: int) -> None:
    model = build(cross_sample_token_id=SEPARATOR)
    ids[:, 6] = SEPARATOR
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "num_beams": beams, "pad_token_id": 0}
    found = model.generate(ids, use_cache=use_cache, **options)
    ids[:, :6] = (ids[:, :6] + 1) % SEPARATOR  # what stands before the separator does not matter
    assert torch.equal(model.generate(ids, use_cache=use_cache, **options)[:, S:], found[:, S:])
    ids[:, 8] = (ids[:, 8] + 1) % SEPARATOR
    assert not torch.equal(model.generate(ids, use_cache=use_cache, **options)[:, S:], found[:, S:])


@torch.no_grad()
def test_rotary_positions_may_start_anywhere_and_differ_by_row(build: Build, ids: Tensor) -> None:
    model = build()
    shifted = torch.arange(S)[None] + torch.tensor([[3], [20]])
    assert (model(ids, position_ids=shifted).logits - model(ids).logits).abs().max() <= LIMIT
    gap = torch.arange(S)[None].repeat(2, 1)
    gap[:, 5:] += 3
    assert (model(ids, position_ids=gap).logits - model(ids).logits).abs().max() > 1e-3


@torch.no_grad()
def test_learned_positions_are_those_given(build: Build, ids: Tensor) -> None:
    model = build(embd_layer="positional", architecture={"mixer": {"mixer_cls": "mha", "rotary_dim": 0}})
    positions = torch.arange(S)[None] + 5
    found = model(ids, position_ids=positions).logits
    model.layers[0].wpe.weight.data = model.layers[0].wpe.weight.roll(-5, 0)
    assert (model(ids).logits - found).abs().max() <= LIMIT


@torch.no_grad()
@pytest.mark.parametrize("kind", [*MIXER_KINDS, "not causal"])
@pytest.mark.parametrize("form", ["whole", "padded", "packed"])
def test_backends_agree_in_float64(build: Build, ids: Tensor, kind: str, form: str) -> None:
    architecture = mixer(kind) if kind != "not causal" else {"mixer": {"mixer_cls": "mha", "causal": False}}
    model = build(architecture=architecture, cross_sample_token_id=SEPARATOR if form == "packed" else None)
    ids[:, 6] = SEPARATOR
    mask = LEFT if form == "padded" else None
    kept = slice(None) if mask is None else mask.bool()
    model.set_attn_implementation("eager")
    eager = model(ids, attention_mask=mask).logits
    model.set_attn_implementation("sdpa")
    sdpa = model(ids, attention_mask=mask).logits
    # Relative to the size of a logit: 1e-12 is a few hundred roundings.
    assert (eager - sdpa)[kept].abs().max() <= 1e-12 * eager.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("kind", [*MIXER_KINDS, "not causal"])
@pytest.mark.parametrize("form", ["whole", "padded", "packed", "decoded", "static"])
def test_a_model_on_flash_errs_no_more_than_on_sdpa(
    build: Build, ids: Tensor, flash_package: Any, kind: str, form: str
) -> None:
    if kind == "not causal" and form in ("decoded", "static"):
        return  # there is no decoding where queries see later keys
    architecture = mixer(kind) if kind != "not causal" else {"mixer": {"mixer_cls": "mha", "causal": False}}
    model = build(architecture=architecture, cross_sample_token_id=SEPARATOR if form == "packed" else None)
    ids[:, 6] = SEPARATOR
    mask = LEFT if form != "whole" else None
    kept = slice(None) if mask is None else mask.bool()
    truth = model(ids, attention_mask=mask).logits[kept]
    model = model.half()
    errors = []
    for backend in ("sdpa", "flash_attention_2"):
        model.config._attn_implementation_internal = backend  # transformers' setter wants a GPU
        if form in ("decoded", "static"):
            found = decode(model, ids, [6, 1, 7], caches(model)[0 if form == "decoded" else 2], mask)
        else:
            found = model(ids, attention_mask=mask).logits
        errors.append(float((found[kept].double() - truth).pow(2).mean().sqrt()))
    assert errors[1] <= 1.5 * errors[0]


def test_flash_attn_false_forbids_flash(build: Build, ids: Tensor, flash_package: Any) -> None:
    model = build(architecture=[{}, {"mixer": {"mixer_cls": "mha", "flash_attn": False}}]).half()
    model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(MixFormerError, match=r"but `architecture\[1\].mixer.flash_attn` is false"):
        model(ids)


def test_asking_transformers_for_flash_without_a_gpu_is_an_error(build: Build) -> None:
    with pytest.raises((ImportError, ValueError)):
        build().set_attn_implementation("flash_attention_2")


def test_a_model_with_a_mixer_that_cannot_cache_generates_without(build: Build, ids: Tensor) -> None:
    model = build(architecture=[{"mixer": {"mixer_cls": "mha", "causal": False}}, {}])
    assert model(ids, use_cache=True).past_key_values is None
    assert model.generate(ids, max_new_tokens=3, do_sample=False, pad_token_id=0).shape == (2, S + 3)
    with pytest.raises(MixFormerError, match="cannot decode onto a cache"):
        model(ids, past_key_values=DynamicCache())
    with pytest.raises(MixFormerError, match="cannot decode onto a cache"):
        model.generate(ids, max_new_tokens=3, use_cache=True, pad_token_id=0)


@torch.no_grad()
def test_layers_without_a_cache_leave_no_gap_in_it(build: Build, ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    class Identity(torch.nn.Module):
        supports_cache = True

        def __init__(self, config: Any) -> None:
            super().__init__()

        def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
            return x

    monkeypatch.setitem(MIXERS, "identity", Identity)
    model = build(architecture=[{"mixer": {"mixer_cls": "identity"}}, {}, {}])
    cache = DynamicCache()
    found = decode(model, ids, [5, 1, 8], cache)
    assert (found - model(ids, use_cache=False).logits).abs().max() <= LIMIT
    assert len(cache.layers) == 2


BAD_INPUTS: list[tuple[dict[str, Any], str]] = [
    ({"input_ids": torch.tensor([[61]])}, "`input_ids` must be ids from 0 to 60, but got 61"),
    ({"input_ids": torch.tensor([[-1]])}, "`input_ids` must be ids from 0 to 60, but got -1"),
    ({}, "either input_ids or inputs_embeds"),
    ({"input_ids": torch.zeros(1, 2).long(), "inputs_embeds": torch.zeros(1, 2, 32)}, "either input_ids or inputs_emb"),
    ({"input_ids": torch.zeros(1, 2).long(), "attention_mask": torch.ones(1, 3)}, "must cover 0 cached and 2 new"),
    ({"input_ids": torch.zeros(1, 2).long(), "attention_mask": torch.ones(1, 1, 2, 2)}, "attention_mask must be"),
    ({"input_ids": torch.zeros(1, 2).long(), "position_ids": torch.zeros(1, 3).long()}, "must have 2 columns"),
    ({"input_ids": torch.zeros(2, 2).long(), "cu_seqlens": torch.tensor([0, 3, 4])}, "boundary at every multiple of 2"),
    ({"input_ids": torch.zeros(1, 2).long(), "cu_seqlens": torch.tensor([0, 3])}, "must ascend from 0 to 2"),
    ({"input_ids": torch.zeros(3).long()}, "input_ids must be .B, S. with at least one token, but got shape .3,."),
    ({"input_ids": torch.zeros(1, 0).long()}, "with at least one token"),
    ({"inputs_embeds": torch.zeros(1, 3)}, "inputs_embeds must be .B, S, n_embd."),
    ({"input_ids": torch.zeros(1, 3).long(), "sample_ids": torch.tensor([[1, 2, 1]])}, "never fall along a row"),
    ({"input_ids": torch.zeros(1, 2).long(), "sample_ids": torch.tensor([[-1, 1]])}, "positive numbers"),
    ({"input_ids": torch.zeros(1, 2).long(), "output_attentions": True}, "output_attentions is not supported"),
    ({"input_ids": torch.zeros(1, 2).long(), "token_types": 1}, r"unknown arguments \['token_types'\]"),
]


@pytest.mark.parametrize(("inputs", "message"), BAD_INPUTS, ids=lambda x: x if isinstance(x, str) else "")
def test_bad_input_is_refused_with_what_was_expected(build: Build, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(MixFormerError, match=message):
        build()(**inputs)


def test_a_position_beyond_a_positional_embedding_is_refused(build: Build) -> None:
    model = build(embd_layer="positional", n_positions=8)
    with pytest.raises(MixFormerError, match="`position_ids` must be below n_positions = 8, but got 8"):
        model(torch.zeros(1, 9, dtype=torch.long))
