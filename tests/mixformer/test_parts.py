"""Parts that are not of the SDK: their formulas written out, a model made of all of them, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mixformer import MixFormerError, MixFormerSequentialConfig, MixFormerSequentialForCausalLM
from mixformer.blocks.mixers import get_mixer
from mixformer.blocks.mlps import get_mlp
from mixformer.blocks.norms import get_norm

SMALL: dict[str, Any] = {"n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 24, "pad_vocab_size_multiple": 1}
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3]])
EVERYTHING: dict[str, Any] = {
    "block_cls": "residual",
    "norms": "both",
    "residual_scale": 0.5,
    "norm": {"norm_cls": "flash_rms", "zero_centered_weight": True},
    "mixer": {
        "mixer_cls": "mha",
        "n_head_kv": 1,
        "bias": False,
        "qk_norm": True,
        "qk_norm_over": "width",
        "clip_qkv": 2.0,
        "softcap": 30.0,
        "query_growth": {"beta": 0.1, "length": 4},
    },
    "mlp": {"mlp_cls": "mlp_xielu"},
    "head": {"head_cls": "causal_lm", "use_bias": False, "logit_multiplier": 0.5, "logit_softcap": 15.0},
}


def config(**kwargs: Any) -> MixFormerSequentialConfig:
    return MixFormerSequentialConfig(**{**SMALL, **kwargs})


def model(architecture: Any, **kwargs: Any) -> MixFormerSequentialForCausalLM:
    made = MixFormerSequentialForCausalLM(config(architecture=architecture, **kwargs)).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def logits(made: MixFormerSequentialForCausalLM) -> Tensor:
    with torch.no_grad():
        return made(IDS).logits


def rms(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


def test_a_model_of_all_parts_at_once_saves_loads_decodes_and_trains(tmp_path):
    made = model(EVERYTHING, embd_layer="scaled_table", embd_scale=4.0)
    made.save_pretrained(tmp_path)
    back = MixFormerSequentialForCausalLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    assert torch.equal(logits(made), logits(back))
    with torch.no_grad():
        cache = back(IDS[:, :4], use_cache=True).past_key_values
        rest = back(IDS[:, 4:], past_key_values=cache).logits
    assert torch.allclose(rest, logits(back)[:, 4:], atol=1e-12)
    made.train()
    made(IDS, labels=IDS).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in made.parameters())


def test_a_fresh_model_begins_with_norms_that_change_nothing():
    fresh = MixFormerSequentialForCausalLM(config(architecture=EVERYTHING, embd_layer="scaled", embd_scale=2.0))
    assert all((p == 0).all() for name, p in fresh.named_parameters() if ".ln_" in name or ".after_" in name)


@pytest.mark.parametrize("norms", ["before", "after", "both"])
def test_the_residual_block(norms):
    made = model({"block_cls": "residual", "norms": norms, "residual_scale": 0.25, "norm": {"norm_cls": "rms"}})
    block, x = made.layers[1], torch.randn(1, 5, 16, dtype=torch.float64)

    def normed(y: Tensor, name: str, there: bool) -> Tensor:
        return rms(y, getattr(block, name).weight) if there else y

    before, after = norms != "after", norms != "before"
    want = x + 0.25 * normed(block.attn(normed(x, "ln_1", before)), "after_1", after)
    want = want + 0.25 * normed(block.mlp(normed(want, "ln_2", before)), "after_2", after)
    assert torch.allclose(block(x)[0], want, atol=1e-12)


def test_a_residual_block_with_nothing_said_is_a_sequential_one():
    one, other = model({"block_cls": "residual"}), model({"block_cls": "sequential"})
    other.load_state_dict(one.state_dict())
    assert torch.equal(logits(one), logits(other))


@pytest.mark.parametrize(("layer", "on_embeds"), [("scaled", 3.0), ("scaled_table", 1.0)])
def test_scaled_embeddings(layer, on_embeds):
    made = model({"block_cls": "sequential"}, embd_layer=layer, embd_scale=3.0)
    plain = model({"block_cls": "sequential"})
    plain.load_state_dict(made.state_dict())
    rows = made.layers[0].wte.weight
    embeds = rows[IDS] * 3.0
    with torch.no_grad():
        want = plain(inputs_embeds=embeds).logits
        assert torch.allclose(logits(made), want, atol=1e-12)
        assert torch.allclose(made(inputs_embeds=embeds / on_embeds).logits, want, atol=1e-12)


def test_norms_around_one():
    x = torch.randn(3, 8, dtype=torch.float64)
    for kind in ("torch", "flash_rms"):
        norm = get_norm(8, {"norm_cls": kind, "zero_centered_weight": True}).double()
        assert (norm.weight == 0).all()
        norm.weight.data = torch.randn(8, dtype=torch.float64)
        want = F.layer_norm(x, (8,), norm.weight + 1, norm.bias) if kind == "torch" else rms(x, norm.weight + 1)
        assert torch.allclose(norm(x), want, atol=1e-12)


def test_a_small_deviation_from_one_is_not_rounded_away_in_bfloat16():
    norm = get_norm(8, {"norm_cls": "flash_rms", "zero_centered_weight": True}).to(torch.bfloat16)
    x = torch.ones(8, dtype=torch.bfloat16)
    norm.weight.data.fill_(2**-9)  # 1 + 2^-9 is 1 in bfloat16; times 1.5 it is not
    assert norm(1.5 * x).dtype is torch.bfloat16
    assert norm.weight.float().add(1).ne(1).all() and (norm.weight + 1).eq(1).all()


@pytest.mark.parametrize("kind", ["torch", "rms"])
@pytest.mark.parametrize("over", ["head", "each_head", "width"])
def test_norms_of_queries_and_keys(over, kind):
    norm = {"norm_cls": kind, **({"bias": False} if kind == "torch" else {})}
    made = model(
        {"block_cls": "sequential", "norm": norm, "mixer": {"mixer_cls": "mha", "qk_norm": True, "qk_norm_over": over}}
    )
    mixer = made.layers[1].attn
    x = torch.randn(1, 5, 16, dtype=torch.float64)
    rows = mixer.Wqkv(x)
    q, k, _ = rows.split(16, dim=-1)

    def want(y: Tensor, weight: Tensor) -> Tensor:
        y = y if over == "width" else y.unflatten(-1, (2, 8))
        y = y - y.mean(-1, keepdim=True) if kind == "torch" else y
        y = rms(y, weight.view(2, 8) if over == "each_head" else weight)
        return y.reshape(1, 5, 2, 8)

    mixer.rotary_emb = None
    found_q, found_k, _ = mixer._project(x, None)
    assert torch.allclose(found_q, want(q, mixer.q_norm.weight), atol=1e-12)
    assert torch.allclose(found_k, want(k, mixer.k_norm.weight), atol=1e-12)


def test_a_bound_on_queries_keys_and_values():
    made = config(architecture={"block_cls": "sequential"})
    mixer = get_mixer(made, {"mixer_cls": "mha", "clip_qkv": 0.05, "rotary_dim": 0}).double()
    x = torch.randn(1, 5, 16, dtype=torch.float64)
    found = torch.cat([part.flatten(-2) for part in mixer._project(x, None)], dim=-1)
    assert torch.equal(found, mixer.Wqkv(x).clamp(-0.05, 0.05)) and (found.abs() == 0.05).any()


def test_queries_grow_with_their_position():
    growth = {"beta": 0.3, "length": 4}
    made = model({"block_cls": "sequential", "mixer": {"mixer_cls": "mha", "query_growth": growth}})
    plain = model({"block_cls": "sequential"})
    plain.load_state_dict(made.state_dict())
    assert torch.allclose(logits(made)[:, :4], logits(plain)[:, :4], atol=1e-12)
    assert not torch.allclose(logits(made)[:, 4:], logits(plain)[:, 4:], atol=1e-4)
    factors = made.layers[1].attn.query_growth.factors(torch.arange(10)[None]).flatten()
    assert torch.allclose(factors, torch.tensor([1 + 0.3 * math.log(1 + t // 4) for t in range(10)]))


def test_logits_are_multiplied_and_then_bounded():
    head = {"head_cls": "causal_lm", "logit_multiplier": 0.5, "logit_softcap": 2.0}
    made, plain = model({"block_cls": "sequential", "head": head}), model({"block_cls": "sequential"})
    plain.load_state_dict(made.state_dict())
    assert torch.allclose(logits(made), 2.0 * torch.tanh(0.5 * logits(plain) / 2.0), atol=1e-12)


def test_mlps_without_biases_and_one_that_learns_its_activation():
    made, x = config(architecture={"block_cls": "sequential"}), torch.randn(4, 16, dtype=torch.float64)
    plain = get_mlp(made, {"mlp_cls": "mlp_no_bias", "act_fn": "relu2"}).double()
    assert {name for name, _ in plain.named_parameters()} == {"fc1.weight", "fc2.weight"}
    assert torch.allclose(plain(x), plain.fc2(F.relu(plain.fc1(x)).square()), atol=1e-12)
    learns = get_mlp(made, {"mlp_cls": "mlp_xielu"}).double()
    y = learns.fc1(x)
    a, b = F.softplus(learns.act.alpha_p), 0.5 + F.softplus(learns.act.alpha_n)
    want = torch.where(y > 0, a * y * y + 0.5 * y, (torch.expm1(y.clamp(max=-1e-6)) - y) * b + 0.5 * y)
    assert torch.allclose(learns(x), learns.fc2(want), atol=1e-9)


def test_layers_may_differ_in_positions():
    mixer = {"mixer_cls": "mha", "bias": False}
    items = [
        {"block_cls": "sequential", "mixer": {**mixer, "rotary_dim": 0}},
        {"block_cls": "sequential", "mixer": {**mixer, "rotary_base": 1e6, "window_size": "(3, 0)"}},
    ]
    made = model(items)
    assert made.layers[1].attn.rotary_emb is None
    assert made.layers[2].attn.rotary_emb.frequencies.base == 1e6


REFUSED: dict[str, dict[str, Any]] = {
    "norms": {"block_cls": "residual", "norms": "around"},
    "residual_scale": {"block_cls": "residual", "residual_scale": "0.5"},
    "norm_s": {"block_cls": "residual", "norm_s": "both"},
    "block_cls sequential": {"block_cls": "sequential", "norms": "both"},
    "qk_norm_over": {"mixer": {"mixer_cls": "mha", "qk_norm": True, "qk_norm_over": "heads"}},
    "without qk_norm": {"mixer": {"mixer_cls": "mha", "qk_norm_over": "width"}},
    "each_head around 1": {
        "norm": {"norm_cls": "flash_rms", "zero_centered_weight": True},
        "mixer": {"mixer_cls": "mha", "qk_norm": True, "qk_norm_over": "each_head"},
    },
    "clip_qkv": {"mixer": {"mixer_cls": "mha", "clip_qkv": 0}},
    "query_growth": {"mixer": {"mixer_cls": "mha", "query_growth": {"beta": 0.1}}},
    "query_growth more": {"mixer": {"mixer_cls": "mha", "query_growth": {"beta": 0.1, "length": 4, "base": 2}}},
    "logit_softcap": {"head": {"head_cls": "causal_lm", "logit_softcap": -1.0}},
    "act_fn of xielu": {"mlp": {"mlp_cls": "mlp_xielu", "act_fn": "relu"}},
    "norm keyword": {"norm": {"norm_cls": "rms", "zero_centered_weight": True}},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_says_nothing_sound_is_refused_by_its_path(name):
    word = {"block_cls sequential": "norms", "without qk_norm": "qk_norm_over", "each_head around 1": "qk_norm_over"}
    word |= {"act_fn of xielu": "act_fn", "norm keyword": "zero_centered_weight"}
    with pytest.raises(MixFormerError, match=rf"architecture.*\.{word.get(name, name.split()[0])}|head\.logit"):
        MixFormerSequentialForCausalLM(config(architecture=REFUSED[name]))


@pytest.mark.parametrize(
    "said", [{"embd_layer": "scaled"}, {"embd_scale": 2.0}, {"embd_layer": "scaled", "embd_scale": "2"}]
)
def test_a_multiplier_of_embeddings_is_said_where_it_is_used_and_there_alone(said):
    with pytest.raises(MixFormerError, match="embd_scale"):
        MixFormerSequentialForCausalLM(config(**said))
