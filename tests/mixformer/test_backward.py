"""Backward passes that compute again what autograd would keep: the same gradients of any order, with less memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from transformers import LlamaConfig, LlamaForCausalLM

from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM
from mixformer.blocks.heads import cross_entropy
from mixformer.blocks.heads.causal_lm import CausalLMLoss
from mixformer.blocks.heads.cross_entropy import token_losses
from mixformer.blocks.norms.rms import rms_norm
from mixformer.errors import ConfigurationError, InputError

Build = Callable[..., MixFormerSequentialForCausalLM]

LLAMA = {
    "block_cls": "sequential",
    "norm": {"norm_cls": "rms", "eps": 1e-6},
    "mixer": {"mixer_cls": "mha", "n_head_kv": 2, "bias": False},
    "mlp": {"mlp_cls": "glu", "act_fn": "silu", "n_inner": 88},
    "head": {"head_cls": "causal_lm", "use_bias": False},
}
IGNORED = 3
# Old releases of torch warn of the vmap that their own gradcheck uses.
OLD_GRADCHECK = pytest.mark.filterwarnings("ignore:Please use `torch.vmap`:FutureWarning")
MORE_IS_KEPT = pytest.mark.skipif(
    torch.__version__ < (2, 13),
    reason=f"torch {torch.__version__} is older than 2.13; torch 2.6 keeps 0.816 of LLaMA's memory, 0.8 is allowed",
)


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 61, (2, 7))


def inputs_of_norm(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    x, weight = torch.randn(2, 3, 6, dtype=dtype) * scale, torch.randn(6, dtype=dtype)
    return x.requires_grad_(), weight.requires_grad_()


def inputs_of_loss(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    labels = torch.tensor([0, 9, IGNORED, 4, 4, IGNORED, 8])
    return (torch.randn(7, 10, dtype=dtype) * 3).requires_grad_(), labels


def plain_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.double()
    return (wide / (wide.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight.double()).to(x.dtype)


@pytest.fixture(params=[1, 2, 100], ids=lambda rows: f"{rows} rows at a time")
def few_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(cross_entropy, "CHUNK", {"cpu": request.param * 10 + 5})
    return request.param


@OLD_GRADCHECK
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_derivatives_of_the_norm_are_those_of_its_values(scale: float) -> None:
    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(x, weight, 1e-5)

    inputs = inputs_of_norm(scale=scale)
    steps = {"eps": 1e-6 * scale, "atol": 1e-5 / scale, "rtol": 1e-4}
    assert torch.autograd.gradcheck(norm, inputs, check_forward_ad=True, check_batched_grad=True, **steps)
    assert torch.autograd.gradgradcheck(norm, inputs, check_rev_over_rev=True, **{**steps, "atol": 1e-4 / scale**2})


@OLD_GRADCHECK
def test_derivatives_of_the_loss_are_those_of_its_values(few_rows: int) -> None:
    logits, labels = inputs_of_loss()

    def losses(logits: Tensor) -> Tensor:
        return token_losses(logits, labels, IGNORED)

    assert torch.autograd.gradcheck(losses, logits, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(losses, logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gradients_of_the_norm_are_rounded_once(dtype: torch.dtype) -> None:
    x, weight = inputs_of_norm(dtype)
    grads = torch.randn_like(x)
    found = torch.autograd.grad(rms_norm(x, weight, 1e-5), (x, weight), grads)
    wide = [t.detach().double().requires_grad_() for t in (x, weight)]
    expected = torch.autograd.grad(plain_rms_norm(*wide, 1e-5), wide, grads.double())
    for mine, truth in zip(found, expected, strict=True):
        assert mine.dtype == dtype
        assert float((mine - truth).abs().max()) <= 1.01 * torch.finfo(dtype).eps * float(truth.abs().max()) + 1e-15


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gradients_of_the_loss_are_those_of_cross_entropy(few_rows: int, dtype: torch.dtype) -> None:
    logits, labels = inputs_of_loss(dtype)
    weights = torch.rand(7)
    wide = logits if dtype == torch.float64 else logits.float()
    theirs = F.cross_entropy(wide, labels, ignore_index=IGNORED, reduction="none")
    ours = token_losses(logits, labels, IGNORED)
    assert torch.equal(ours, theirs)
    assert ours[labels == IGNORED].tolist() == [0.0, 0.0]
    found, expected = (torch.autograd.grad((y * weights).sum(), logits)[0] for y in (ours, theirs))
    assert found.dtype == dtype
    assert torch.allclose(found, expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-7)
    assert found[labels == IGNORED].count_nonzero() == 0


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_input_of_the_norm_gets_no_gradient(frozen: int) -> None:
    inputs = inputs_of_norm()
    expected = torch.autograd.grad(rms_norm(*inputs, 1e-5).sum(), inputs)[1 - frozen]
    inputs[frozen].requires_grad_(False)
    rms_norm(*inputs, 1e-5).sum().backward()
    assert inputs[frozen].grad is None
    assert torch.equal(inputs[1 - frozen].grad, expected)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_every_reduction_is_that_of_cross_entropy(ids: Tensor, shift: bool, reduction: str) -> None:
    logits = torch.randn(2, 7, 61)
    ids[1, 4] = IGNORED
    loss = CausalLMLoss(shift_labels=shift, ignore_index=IGNORED, reduction=reduction)
    kept, labels = (logits[:, :-1], ids[:, 1:]) if shift else (logits, ids)
    expected = F.cross_entropy(kept.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction=reduction)
    for form in (ids, ids.int()):
        assert torch.allclose(loss(logits, form), expected)
    assert loss(logits, ids).shape == expected.shape


def test_without_a_label_that_counts_there_is_no_mean() -> None:
    assert CausalLMLoss()(torch.randn(1, 3, 5), torch.full((1, 3), -100)).isnan()
    assert CausalLMLoss(reduction="sum")(torch.randn(1, 3, 5), torch.full((1, 3), -100)) == 0.0


def test_the_loss_refuses_what_it_cannot_mean(build: Build, ids: Tensor) -> None:
    with pytest.raises(ConfigurationError, match=r"`loss.reduction` must be one of \['mean', 'sum', 'none'\]"):
        CausalLMLoss(reduction="median")
    with pytest.raises(InputError, match=r"one entry per position of the logits, \(2, 1\), but got shape \(2, 7\)"):
        build()(ids, labels=ids, logits_to_keep=1)
    with pytest.raises(IndexError, match="61"):
        build()(ids, labels=torch.full_like(ids, 61))


@pytest.fixture
def loss_of(build: Build, ids: Tensor) -> tuple[Callable[[dict[str, Tensor]], Tensor], dict[str, Tensor]]:
    """The loss as a function of all parameters, and these. Attention is eager: torch's kernel has one derivative."""
    model = build(architecture=LLAMA, attn_implementation="eager")
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return functional_call(model, parameters, (), {"input_ids": ids, "labels": ids, "use_cache": False}).loss

    return loss, parameters


def test_the_model_can_be_differentiated_in_every_mode(loss_of: Any) -> None:
    loss, at = loss_of
    along = {name: torch.randn_like(p) for name, p in at.items()}
    step = 1e-5
    forth, back = ({name: p + sign * step * along[name] for name, p in at.items()} for sign in (1, -1))
    slope = (loss(forth) - loss(back)) / (2 * step)
    gradient = grad(loss)(at)
    assert torch.allclose(sum((gradient[name] * along[name]).sum() for name in at), slope, rtol=1e-5)
    assert torch.allclose(jvp(loss, (at,), (along,))[1], slope, rtol=1e-5)
    bend = jvp(grad(loss), (at,), (along,))[1]
    above, below = grad(loss)(forth), grad(loss)(back)
    for name, found in bend.items():
        expected = (above[name] - below[name]) / (2 * step)
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-6 * float(expected.abs().max())), name


def test_the_model_can_be_mapped_over_parameters(loss_of: Any) -> None:
    loss, at = loss_of
    pairs = {name: torch.stack((p, 1.1 * p)) for name, p in at.items()}
    gradients = vmap(grad(loss))(pairs)
    for which, factor in enumerate((1.0, 1.1)):
        expected = grad(loss)({name: factor * p for name, p in at.items()})
        assert all(torch.allclose(gradients[name][which], expected[name], rtol=1e-8, atol=1e-12) for name in at)


def kept_bytes(model: nn.Module, ids: Tensor) -> int:
    """Memory that a training step keeps for its backward pass beside the parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in parameters:
            kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        model(input_ids=ids, labels=ids, use_cache=False)
    return sum(x.untyped_storage().nbytes() for x in kept.values())


@pytest.mark.parametrize(
    ("dtype", "share"), [(torch.float32, 0.95), pytest.param(torch.bfloat16, 0.8, marks=MORE_IS_KEPT)]
)
def test_a_training_step_keeps_less_than_llama_does(dtype: torch.dtype, share: float) -> None:
    llama = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=88,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    sizes = {"n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 300, "pad_vocab_size_multiple": 1}
    ours = MixFormerSequentialForCausalLM(MixFormerSequentialConfig(**sizes, architecture=LLAMA)).to(dtype)
    theirs = LlamaForCausalLM(llama).to(dtype)
    assert ours.num_parameters() == theirs.num_parameters()
    ids = torch.randint(0, 300, (2, 64))
    assert kept_bytes(ours, ids) < share * kept_bytes(theirs, ids)


def test_hidden_states_that_nobody_asked_for_are_let_go(build: Build, ids: Tensor) -> None:
    model = build(architecture=LLAMA, n_layer=3)
    passed: list[weakref.ref[Tensor]] = []
    alive: list[int] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, __, output: passed.append(weakref.ref(output[0])))
    model.blocks[-1].register_forward_pre_hook(lambda _, __: alive.append(sum(ref() is not None for ref in passed)))
    with torch.no_grad():
        model(ids, use_cache=False)
        passed.clear()
        model(ids, use_cache=False, output_hidden_states=True)
    assert alive == [1, 2]


def test_compiled_and_written_backward_passes_agree(build: Build, ids: Tensor) -> None:
    torch.compiler.reset()
    model = build(architecture=LLAMA)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found, expected = (
        torch.autograd.grad(run(ids, labels=ids, use_cache=False).loss, list(model.parameters()))
        for run in (compiled, model)
    )
    assert all(torch.allclose(x, y, rtol=1e-9, atol=1e-12) for x, y in zip(found, expected, strict=True))
