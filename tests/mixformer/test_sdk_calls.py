"""Blocks and mixers that call as the SDK's do compute what the built-in ones compute.

The block and the mixers here name the SDK's keywords and know neither the context nor how a cache is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache, StaticCache

from mixformer import MixFormerError, MixFormerSequentialForCausalLM
from mixformer.blocks import BLOCKS
from mixformer.blocks.embeddings import EMBEDDINGS
from mixformer.blocks.mixers import MIXERS, get_mixer
from mixformer.blocks.mixers.mha import MHA
from mixformer.blocks.mlps import get_mlp
from mixformer.blocks.norms import get_norm

Model = MixFormerSequentialForCausalLM
Build = Callable[..., Model]

S, SEPARATOR, LIMIT = 14, 7, 1e-10
LEFT = torch.tensor([[0] * 5 + [1] * 9, [1] * 14])
RIGHT = torch.tensor([[1] * 9 + [0] * 5, [1] * 14])
GAPS = torch.arange(S)[None].repeat(2, 1) + torch.tensor([[0] * 6 + [3] * 8, [2] * 14])
BOUNDARIES = torch.tensor([0, 5, 10, S, S + 3, 2 * S], dtype=torch.int32)
NUMBERS = torch.tensor([[1] * 5 + [2] * 5 + [3] * 4, [0] * 3 + [1] * 11])


class SdkBlock(nn.Module):
    """A sequential block with the SDK's keywords and no others."""

    def __init__(self, config: Any, mixer: Any = None, mlp: Any = None, norm: Any = None, block_idx: int = 0) -> None:
        super().__init__()
        self.ln_1 = get_norm(config.n_embd, norm_config=norm)
        self.ln_2 = get_norm(config.n_embd, norm_config=norm)
        self.attn = get_mixer(config, mixer_config=mixer, mixer_idx=block_idx)
        self.mlp = get_mlp(config, mlp_config=mlp)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[Tensor]:
        asked = {"attention_mask": attention_mask, "position_ids": position_ids, "cu_seqlens": cu_seqlens}
        mixed = self.attn(self.ln_1(hidden_states), past_key_values=past_key_values, **self.kept(asked))
        x = hidden_states + (mixed[0] if isinstance(mixed, tuple) else mixed)
        return (x + self.mlp(self.ln_2(x)),)

    def kept(self, asked: dict[str, Any]) -> dict[str, Any]:
        return asked


class ForgetfulBlock(SdkBlock):
    """The negative control: what `MHA` made of such a call before it read the keywords."""

    def kept(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {}


class NamingMixer(nn.Module):
    """A mixer around `MHA` that names the SDK's keywords and returns a tuple."""

    def __init__(self, config: Any, layer_idx: int | None = None, **kwargs: Any) -> None:
        super().__init__()
        self.mha = MHA(config, layer_idx=layer_idx, **kwargs)

    def forward(
        self,
        x: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        past_key_values: Any = None,
    ) -> tuple[Tensor, None]:
        asked = {"position_ids": position_ids, "cu_seqlens": cu_seqlens, "past_key_values": past_key_values}
        return self.mha(x, attention_mask=attention_mask, **asked), None


class PassingMixer(NamingMixer):
    """A mixer around `MHA` that hands on whatever it gets."""

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        return self.mha(x, **kwargs)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, block in {"sdk": SdkBlock, "forgetful": ForgetfulBlock}.items():
        monkeypatch.setitem(BLOCKS, name, block)
    for name, mixer in {"naming": NamingMixer, "passing": PassingMixer}.items():
        monkeypatch.setitem(MIXERS, name, mixer)


@pytest.fixture
def ids() -> Tensor:
    ids = torch.randint(0, 61, (2, S))
    ids[ids == SEPARATOR] += 1
    ids[0, 4] = ids[0, 9] = ids[1, 2] = SEPARATOR
    return ids


MIXER_KINDS: dict[str, dict[str, Any]] = {
    "grouped": {"n_head_kv": 2, "bias": False},
    "window": {"window_size": 3},
    "alibi": {"use_alibi": True, "rotary_dim": 0},
    "yarn": {"rope_scaling": {"type": "yarn"}, "rotary_scale_base": 2.0},
    "scaled heads": {"qk_l2_norm": True, "qk_scale": {"init": 2.0, "scaling": 0.5}},
    "no softmax": {"attn_fn": "masked_linear", "masked_score": -0.3},
}
CALLERS = {
    "block": ("sdk", "mha"),
    "naming mixer": ("sequential", "naming"),
    "passing mixer": ("sequential", "passing"),
    "mixer in a parallel block": ("parallel", "naming"),
    "both": ("sdk", "passing"),
}


def pair(build: Build, block: str, mixer: str, kind: str = "grouped", **config: Any) -> tuple[Model, Model]:
    """A model whose layers call as the SDK's do, and the built-in one with its weights."""
    architecture = {"block_cls": block, "mixer": {"mixer_cls": mixer, **MIXER_KINDS[kind]}}
    custom = build(architecture=architecture, **config)
    usual = "parallel" if block == "parallel" else "sequential"
    built_in = {"block_cls": usual, "mixer": {"mixer_cls": "mha", **MIXER_KINDS[kind]}}
    plain = build(architecture=built_in, **config)
    plain.load_state_dict({key.replace(".mha.", "."): value for key, value in custom.state_dict().items()})
    return custom, plain


INPUTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "whole": ({}, {}),
    "padded left": ({}, {"attention_mask": LEFT}),
    "padded right": ({}, {"attention_mask": RIGHT}),
    "positions": ({}, {"position_ids": GAPS}),
    "padding and positions": ({}, {"attention_mask": LEFT, "position_ids": GAPS}),
    "boundaries": ({}, {"cu_seqlens": BOUNDARIES}),
    "padded samples": ({}, {"cu_seqlens": BOUNDARIES, "attention_mask": LEFT}),
    "numbered samples": ({}, {"sample_ids": NUMBERS}),
    "separators": ({"cross_sample_token_id": SEPARATOR}, {}),
    "padding and separators": ({"cross_sample_token_id": SEPARATOR}, {"attention_mask": LEFT}),
}


def seen(form: str) -> Tensor:
    mask = INPUTS[form][1].get("attention_mask", torch.ones_like(LEFT))
    return ((NUMBERS != 0) if form == "numbered samples" else mask != 0).bool()


@torch.no_grad()
@pytest.mark.parametrize("kind", MIXER_KINDS)
@pytest.mark.parametrize("form", INPUTS)
@pytest.mark.parametrize("caller", CALLERS)
def test_a_layer_that_calls_as_the_sdk_computes_the_same(
    build: Build, ids: Tensor, caller: str, form: str, kind: str
) -> None:
    config, inputs = INPUTS[form]
    custom, plain = pair(build, *CALLERS[caller], kind, **config)
    for use_cache in (False, True):
        found = custom(ids, use_cache=use_cache, **inputs)
        assert (found.logits - plain(ids, **inputs).logits)[seen(form)].abs().max() <= LIMIT
        assert (found.past_key_values is not None) == (use_cache and kind != "no softmax")


@torch.no_grad()
@pytest.mark.parametrize("form", [form for form in INPUTS if form not in ("whole", "padded right")])
def test_forgetting_the_keywords_is_seen_in_every_form(build: Build, ids: Tensor, form: str) -> None:
    config, inputs = INPUTS[form]  # padding on the right is hidden by causality alone
    custom, plain = pair(build, "forgetful", "mha", **config)
    found, truth = (model(ids, use_cache=False, **inputs).logits for model in (custom, plain))
    assert (found - truth)[seen(form)].abs().max() > 1e-2


def decode(model: Model, ids: Tensor, cache: Any, **inputs: Any) -> Tensor:
    """Logits of ids fed in chunks onto a cache; inputs cover the tokens up to each chunk."""
    logits, past = [], 0
    for length in (6, 1, 4, 3):
        now = {key: value[:, : past + length] for key, value in inputs.items() if value is not None}
        if "position_ids" in now:
            now["position_ids"] = now["position_ids"][:, past:]
        logits.append(model(ids[:, past : past + length], past_key_values=cache, use_cache=True, **now).logits)
        past += length
    return torch.cat(logits, dim=1)


CACHED = ("whole", "padded left", "padded right", "positions", "padding and positions", "numbered samples")


@torch.no_grad()
@pytest.mark.parametrize("form", [*CACHED, "separators", "padding and separators"])
@pytest.mark.parametrize("caller", CALLERS)
def test_decoding_onto_a_cache_equals_a_full_pass(build: Build, ids: Tensor, caller: str, form: str) -> None:
    config, inputs = INPUTS[form]
    custom, plain = pair(build, *CALLERS[caller], **config)
    full = plain(ids, use_cache=False, **inputs).logits[seen(form)]
    for cache in (DynamicCache(), StaticCache(config=custom.config, max_cache_len=S + 3)):
        assert (decode(custom, ids, cache, **inputs)[seen(form)] - full).abs().max() <= LIMIT


@torch.no_grad()
@pytest.mark.parametrize("caller", CALLERS)
def test_generation_decodes_onto_a_cache(build: Build, ids: Tensor, caller: str) -> None:
    custom, plain = pair(build, *CALLERS[caller], cross_sample_token_id=SEPARATOR)
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "attention_mask": LEFT}
    assert custom.supports_cache
    assert torch.equal(custom.generate(ids, **options), plain.generate(ids, use_cache=False, **options))


class IdsAlone(nn.Module):
    """An embedding that names nothing of ours."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.wte(input_ids)


@torch.no_grad()
def test_an_embedding_gets_what_it_takes(build: Build, ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EMBEDDINGS, "ids alone", IdsAlone)
    custom, plain = build(embd_layer="ids alone"), build()
    plain.load_state_dict(custom.state_dict())
    assert torch.equal(custom(ids).logits, plain(ids).logits)
    with pytest.raises(MixFormerError, match="the embedding of this model takes only input_ids"):
        custom(inputs_embeds=torch.zeros(1, 3, 32).double())


@torch.no_grad()
def test_an_attention_alone_reads_its_keywords_and_says_what_is_wrong(build: Build) -> None:
    attention, x = build().layers[1].mixer, torch.randn(2, S, 32).double()
    alone = attention(x[:1, 5:])
    padded = attention(x, attention_mask=LEFT)
    assert (padded[0, 5:] - alone[0]).abs().max() <= LIMIT
    assert (attention(x)[0, 5:] - alone[0]).abs().max() > 1e-2
    with pytest.raises(MixFormerError, match="must cover 0 cached and 14 new tokens"):
        attention(x, attention_mask=LEFT[:, 1:])
    with pytest.raises(MixFormerError, match="boundary at every multiple of 14"):
        attention(x, cu_seqlens=torch.tensor([0, 2 * S]))
    with pytest.raises(TypeError):
        attention(x, LEFT)  # whose place that is nothing says


def test_samples_without_boundaries_compile_as_they_run(build: Build, ids: Tensor) -> None:
    torch.compiler.reset()
    custom, plain = pair(build, "sdk", "mha", cross_sample_token_id=SEPARATOR)
    compiled = torch.compile(custom, fullgraph=True, backend="aot_eager")
    found = compiled(ids, use_cache=False).logits
    assert (found - plain(ids, use_cache=False).logits).abs().max() <= LIMIT
