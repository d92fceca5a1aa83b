"""What each dialect of nGPT computes: golden numbers, transcriptions, and the misreadings that must not pass for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixformer.blocks.learned_scale import LearnedScale
from mixformer.blocks.mixers.plain_rotary import OddTurn
from mixformer.blocks.mixers.rope import Frequencies
from mixformer.blocks.ngpt import NGPTBlock
from mixformer.blocks.norms.l2 import L2Norm, unit

FLOOR = 1e-10  # what the function of a conversion may be off by, relative to the spread of the logits

GOLDEN = {
    "tutorial": (-8.075249, [-0.991338, -0.613009, 1.065004, 0.598687]),
    "nvidia": (-3.764602, [8.247917, -8.185532, -11.077988, 2.739567]),
}


def numbered(keys: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """float32 tensors that anyone can rebuild: sin(0.7 j + k) for the k-th key in sorted order."""
    found = {}
    for k, key in enumerate(sorted(keys)):
        shape = keys[key]
        tensor = torch.sin(0.7 * torch.arange(math.prod(shape), dtype=torch.float64) + k)
        if len(shape) == 1 and not key.endswith("bias"):
            tensor = 1 + 0.25 * tensor
        found[key] = tensor.view(shape).float()
    return found


@torch.no_grad()
def logits_of(model: nn.Module, ids: Tensor, **kwargs: Any) -> Tensor:
    return model(ids, **kwargs).logits


def distance(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).pow(2).mean().sqrt() / truth.std())


def some_ids(length: int) -> Tensor:
    return torch.randint(0, 32, (length,), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
def test_golden_numbers(ngpt: Any, sizes: Any, attn: str) -> None:
    tensors = numbered(ngpt.keys(sizes()))
    assert len(tensors) == 23
    model = ngpt.model(tensors, sizes())
    model.set_attn_implementation(attn)
    found = logits_of(model, torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]]))
    total, row = GOLDEN[ngpt.name]
    assert found.dtype == torch.float32
    assert float(found.sum()) == pytest.approx(total, abs=1e-4)
    assert found[0, -1, :4].tolist() == pytest.approx(row, abs=1e-5)


def test_golden_numbers_see_a_wrong_scale(ngpt: Any, sizes: Any) -> None:
    tensors = numbered(ngpt.keys(sizes()))
    model = ngpt.model(tensors, sizes(), lambda a: a["mixer"].update(softmax_scale=1.0))
    found = logits_of(model.double(), torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]]))
    if ngpt.name == "nvidia":
        assert float(found.sum()) != pytest.approx(GOLDEN["nvidia"][0], abs=1e-4)
    model.layers[1].attn_alpha.weight.data *= 1.01
    assert float(logits_of(model, torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])).sum()) != pytest.approx(
        GOLDEN[ngpt.name][0], abs=1e-4
    )


@pytest.mark.parametrize(("d", "heads"), [(12, 2), (40, 4), (128, 2)], ids=["h 6", "h 10", "h 64"])
@pytest.mark.parametrize("length", [40, 400])
def test_logits_equal_the_transcription(dialect: Any, sizes: Any, d: int, heads: int, length: int) -> None:
    size = sizes(d=d, heads=heads)
    tensors, ids = dialect.hot(size), some_ids(length)
    found = logits_of(dialect.model(tensors, size), ids[None])[0]
    assert distance(found, dialect.logits(tensors, ids, size)) < 1e-13


def set_in(part: str, **keywords: Any) -> Callable[[dict[str, Any]], None]:
    return lambda architecture: architecture[part].update(keywords)


def without(part: str, keyword: str) -> Callable[[dict[str, Any]], None]:
    def change(architecture: dict[str, Any]) -> None:
        del architecture[part][keyword]

    return change


MISREADINGS: dict[tuple[str, str], Callable[[dict[str, Any]], None]] = {
    ("tutorial", "lerp for add"): lambda a: a.update(residual="lerp"),
    ("tutorial", "a softmax"): lambda a: a["mixer"].update(attn_fn="softmax", masked_score=None),
    ("tutorial", "masked score -1e9"): set_in("mixer", masked_score=-1e9),
    ("tutorial", "reciprocal frequencies"): without("mixer", "rotary_formula"),
    ("tutorial", "frequencies by exp"): set_in("mixer", rotary_formula="exp"),
    ("tutorial", "NVIDIA's turn"): set_in("mixer", rotary_style="ngpt_nvidia"),
    ("tutorial", "1/sqrt(h)"): without("mixer", "softmax_scale"),
    ("tutorial", "heads of any length"): set_in("mixer", qk_l2_norm=False),
    ("nvidia", "add for lerp"): lambda a: a.update(residual="add"),
    ("nvidia", "a rotation"): without("mixer", "rotary_style"),
    ("nvidia", "reciprocal frequencies"): without("mixer", "rotary_formula"),
    ("nvidia", "frequencies by pow"): set_in("mixer", rotary_formula="pow"),
    ("nvidia", "1/sqrt(h)"): without("mixer", "softmax_scale"),
    ("nvidia", "heads of any length"): set_in("mixer", qk_l2_norm=False),
    ("nvidia", "no scale of q and k"): without("mixer", "qk_scale"),
    ("nvidia", "u and v not scaled"): lambda a: a["mlp"]["uv_scale"].update(used=False),
    ("nvidia", "u and v without sqrt(d)"): lambda a: a["mlp"]["uv_scale"].update(init=1.0),
    ("nvidia", "no scale of logits"): without("head", "logit_scale"),
    ("use_nGPT 0", "a rotation"): without("mixer", "rotary_style"),
    ("use_nGPT 0", "frequencies by pow"): set_in("mixer", rotary_formula="pow"),
    ("use_nGPT 0", "sqrt(h)"): set_in("mixer", softmax_scale=20**0.5),
}


@pytest.mark.parametrize(("name", "misreading"), MISREADINGS)
def test_another_function_is_seen(dialects: Any, sizes: Any, name: str, misreading: str) -> None:
    # In heads of 8 two of the formulas for frequencies give the same float32 numbers.
    dialect, size, ids = dialects[name], sizes(d=40), some_ids(40)
    tensors = dialect.hot(size)
    wrong = dialect.model(tensors, size, MISREADINGS[name, misreading])
    assert distance(logits_of(wrong, ids[None])[0], dialect.logits(tensors, ids, size)) > 5 * FLOOR


def signed_alpha(monkeypatch: pytest.MonkeyPatch) -> None:
    def effective(self: LearnedScale, dtype: torch.dtype) -> Tensor:
        return Signed(self.weight.to(dtype) * (self.spec.init / self.spec.scaling))

    class Signed(Tensor):
        def abs(self) -> Tensor:
            return self.as_subclass(Tensor)

    monkeypatch.setattr(LearnedScale, "effective", effective)


def skip_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: NGPTBlock, x: Tensor, branch: Tensor, alpha: LearnedScale) -> Tensor:
        target = unit(branch)
        move = target - x if self.residual == "lerp" else target
        return unit(x + alpha.effective(x.dtype).abs() * move)

    monkeypatch.setattr(NGPTBlock, "step", step)


@pytest.mark.parametrize("misreading", [signed_alpha, skip_as_it_is])
def test_another_step_is_seen(ngpt: Any, sizes: Any, misreading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    size, ids = sizes(), some_ids(40)
    tensors = ngpt.hot(size)
    truth, model = ngpt.logits(tensors, ids, size), ngpt.model(tensors, size)
    assert distance(logits_of(model, ids[None])[0], truth) < FLOOR
    misreading(monkeypatch)
    assert distance(logits_of(model, ids[None])[0], truth) > 1e-2


def swap_halves(x: Tensor) -> Tensor:
    return torch.cat(x.chunk(2)[::-1])


def first_of_pairs(x: Tensor) -> Tensor:
    """Rows of every head in another order: pairs to halves, heads of 8."""
    rows = x.unflatten(0, (-1, 8))
    return torch.cat((rows[:, 0::2], rows[:, 1::2]), dim=1).flatten(0, 1)


def unit_rows(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


TENSOR_FAULTS: dict[tuple[str, str], tuple[tuple[str, ...], Callable[[Tensor], Tensor]]] = {
    ("tutorial", "gate and up swapped"): (("decoders.1.mlp.fc1.weight",), swap_halves),
    ("tutorial", "q and k without their scale"): (("decoders.0.atten.S_qk",), first_of_pairs),
    ("tutorial", "one entry of a scale doubled"): (
        ("decoders.1.atten.S_qk",),
        lambda x: x * torch.where(torch.arange(16) == 3, 2.0, 1.0),
    ),
    ("tutorial", "rates lost"): (("decoders.1.lr_mlp",), torch.ones_like),
    ("tutorial", "rows set to length 1"): (("decoders.0.mlp.fc1.weight",), unit_rows),
    ("nvidia", "gate and up swapped"): (("transformer.h.1.c_fc.weight",), swap_halves),
    ("nvidia", "q and k without their scale"): (
        ("transformer.h.0.query.weight", "transformer.h.0.key.weight"),
        first_of_pairs,
    ),
    ("nvidia", "a scale lost"): (("transformer.h.0.suv",), torch.ones_like),
    ("nvidia", "the scale of logits lost"): (("sz",), lambda x: torch.full_like(x, 0.25)),
    ("nvidia", "rows set to length 1"): (("transformer.h.1.c_fc.weight",), unit_rows),
}


@pytest.mark.parametrize(("name", "fault"), TENSOR_FAULTS)
def test_a_wrong_tensor_is_seen(dialects: Any, sizes: Any, name: str, fault: str) -> None:
    dialect, size, ids = dialects[name], sizes(), some_ids(40)
    tensors = dialect.hot(size)
    keys, change = TENSOR_FAULTS[name, fault]
    wrong = {key: change(tensor) if key in keys else tensor for key, tensor in tensors.items()}
    assert distance(logits_of(dialect.model(wrong, size), ids[None])[0], dialect.logits(tensors, ids, size)) > 1e-5


INVISIBLE: dict[tuple[str, str], tuple[str, Callable[[Tensor], Tensor]]] = {
    ("tutorial", "a factor on v"): ("decoders.0.atten.v.weight", lambda x: 3 * x),
    ("tutorial", "a sign in S_qk"): ("decoders.0.atten.S_qk", lambda x: x * torch.where(torch.arange(16) == 3, -1, 1)),
    ("tutorial", "S_uv"): ("decoders.1.mlp.S_uv", lambda x: x.flip(0) * 5),
    ("nvidia", "a factor on v"): ("transformer.h.0.value.weight", lambda x: 3 * x),
    ("nvidia", "a sign in sqk"): ("transformer.h.1.sqk", lambda x: x * torch.where(torch.arange(16) == 3, -1, 1)),
    ("nvidia", "signs of a rate"): ("transformer.h.1.attn_alpha", lambda x: -x),
}


@pytest.mark.parametrize(("name", "change"), INVISIBLE)
def test_what_no_function_shows(dialects: Any, sizes: Any, name: str, change: str) -> None:
    dialect, size, ids = dialects[name], sizes(), some_ids(40)
    tensors = dialect.hot(size)
    key, edit = INVISIBLE[name, change]
    edited = {**tensors, key: edit(tensors[key])}
    assert not torch.equal(edited[key], tensors[key])
    found = logits_of(dialect.model(edited, size), ids[None])[0]
    assert distance(found, dialect.logits(tensors, ids, size)) < 1e-12


def test_the_tutorial_is_not_causal(tutorial: Any, nvidia: Any, sizes: Any) -> None:
    ids = some_ids(12)[None]
    other = ids.clone()
    other[0, -1] = (other[0, -1] + 1) % 32
    for dialect, moves in ((tutorial, True), (nvidia, False)):
        model = dialect.model(dialect.hot(sizes()), sizes())
        first = (logits_of(model, ids)[0, 0] - logits_of(model, other)[0, 0]).abs().max()
        assert (float(first) > 1e-3) == moves


FORMULAS = {
    "reciprocal": 1.0 / (10000.0 ** (torch.arange(0, 10, 2, dtype=torch.float32) / 10)),
    "pow": torch.pow(10000.0, -2.0 * torch.arange(5, dtype=torch.float32) / 10),
    "exp": torch.exp(torch.arange(0, 10, 2, dtype=torch.float32) * (-math.log(10000.0) / 10)),
}


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_frequencies_are_the_float32_numbers_of_a_formula(
    tutorial: Any, sizes: Any, formula: str, dtype: torch.dtype
) -> None:
    size = sizes(d=20)
    model = tutorial.model(tutorial.hot(size), size, set_in("mixer", rotary_formula=formula)).to(dtype)
    found = model.layers[1].attn.rotary_emb.inv_freq
    assert torch.equal(found.float(), FORMULAS[formula])
    assert torch.equal(found.float().to(found.dtype), found)


def test_formulas_differ_in_float32() -> None:
    one, two, three = FORMULAS.values()
    assert not torch.equal(one, two)
    assert not torch.equal(two, three)


def test_the_odd_turn_is_no_rotation() -> None:
    turn = OddTurn(Frequencies(8, 10000.0, None, 32, "")).double()
    first, second = turn.tables(torch.arange(5)[None], torch.float64)
    assert first.shape == second.shape == (1, 5, 1, 4)
    assert torch.equal(first[0, 0, 0], torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64))
    assert not torch.allclose(first**2 + second**2, torch.ones((), dtype=torch.float64))


def test_a_vector_of_zeros_stays_zeros_and_has_no_gradient() -> None:
    x = torch.randn(3, 5, requires_grad=True)
    y = x * torch.tensor([1.0, 0.0, 1.0])[:, None]
    z = L2Norm(5)(y)
    z.pow(2).sum().backward()
    assert torch.equal(z[1], torch.zeros(5))
    assert torch.allclose(z[[0, 2]].norm(dim=-1), torch.ones(2))
    assert bool(x.grad.isfinite().all())
    zero = torch.zeros(4, requires_grad=True)
    (3 * unit(zero)).sum().backward()
    assert torch.equal(zero.grad, torch.zeros(4))


def test_the_norm_of_a_narrow_vector_is_rounded_once() -> None:
    x = torch.randn(64, 33).bfloat16()
    assert torch.equal(L2Norm(33)(x), unit(x.double()).float().bfloat16())
