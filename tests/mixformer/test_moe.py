"""A mixture of experts: the grouped product is held to the loop, the loss of the router to transformers'."""

import copy

import pytest
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM
from mixformer.blocks.mlps import get_mlp
from mixformer.blocks.mlps.moe import load_balancing_loss, router_loss
from mixformer.errors import ConfigurationError, InputError, UnknownKeywordError

SIZES = {"vocab_size": 61, "n_embd": 24, "n_head": 3, "n_layer": 2, "n_positions": 64, "pad_vocab_size_multiple": 1}
EXPERTS = {"mlp_cls": "moe", "n_experts": 5, "n_active": 2, "n_inner": 16, "act_fn": "silu"}
KINDS = {
    "plain": {},
    "normalised": {"norm_topk": True},
    "shared": {"shared_inner": 20},
    "shared with a gate": {"shared_inner": 20, "shared_gate": True},
    "one of five": {"n_active": 1},
    "all": {"n_active": 5},
}


def config_of(**mlp) -> MixFormerSequentialConfig:
    block = {"block_cls": "sequential", "mlp": {**EXPERTS, **mlp}}
    return MixFormerSequentialConfig(**SIZES, architecture={**block, "head": {"head_cls": "causal_lm"}})


def mixture(**mlp):
    torch.manual_seed(0)
    config = config_of(**mlp)
    made = get_mlp(config, config.architecture["mlp"], block_idx=0)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def by_hand(moe, x):
    """Token by token, from the formula."""
    rows = []
    for row in x.reshape(-1, x.shape[-1]):
        shares = torch.softmax(moe.router.weight @ row, -1)
        weights, chosen = torch.topk(shares, moe.n_active)
        weights = weights / weights.sum() if moe.norm_topk else weights
        out = torch.zeros_like(row)
        for weight, expert in zip(weights, chosen.tolist(), strict=True):
            up, gate = (moe.experts.fc1.each()[expert] @ row).chunk(2)
            out = out + weight * (moe.experts.fc2.each()[expert] @ (up * torch.nn.functional.silu(gate)))
        if moe.shared is not None:
            besides = moe.shared(row)
            out = out + (besides if moe.shared_gate is None else torch.sigmoid(moe.shared_gate(row)) * besides)
        rows.append(out)
    return torch.stack(rows).view_as(x)


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_its_formula(kind):
    moe = mixture(**KINDS[kind]).double()
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    assert torch.allclose(moe(x), by_hand(moe, x), rtol=0, atol=1e-12)


@pytest.mark.skipif(not hasattr(torch.nn.functional, "grouped_mm"), reason="this torch has no grouped_mm")
@pytest.mark.parametrize("kind", KINDS)
def test_the_grouped_product_equals_the_loop_with_its_gradients(kind):
    loop, product = mixture(**KINDS[kind], experts_impl="eager"), mixture(**KINDS[kind], experts_impl="grouped")
    x = torch.randn(2, 9, 24)
    found = []
    for moe in (loop, product):
        given = x.clone().requires_grad_()
        out = moe(given)
        out.square().sum().backward()
        found.append((out, given.grad, *(parameter.grad for parameter in moe.parameters())))
    assert len(found[0]) >= 5
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_an_expert_that_no_token_chose_gets_no_gradient_and_is_not_run():
    moe = mixture(n_active=1)
    with torch.no_grad():
        moe.router.weight.zero_()
        moe.router.weight[3] = 1.0
    x = torch.ones(1, 4, 24)
    moe(x).sum().backward()
    used = moe.experts.fc1.weight.grad.view(5, -1).abs().sum(-1) > 0
    assert used.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("active", [1, 2])
def test_the_loss_of_the_router_is_that_of_transformers(active, padded):
    torch.manual_seed(1)
    logits = [torch.randn(2 * 6, 5, dtype=torch.float64) for _ in range(3)]
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]) if padded else None
    ours = load_balancing_loss(logits, active, None if mask is None else mask.flatten())
    theirs = load_balancing_loss_func(tuple(logits), 5, active, mask)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)


def test_a_router_used_evenly_costs_as_much_as_a_token_uses_experts():
    assert float(load_balancing_loss([torch.eye(5) * 50], 1)) == pytest.approx(1.0)


def test_the_loss_of_the_model_has_that_of_its_routers_where_it_is_asked_for():
    ids = torch.arange(20)[None] % 61
    losses = {}
    for asked in (False, True):
        torch.manual_seed(0)
        model = MixFormerSequentialForCausalLM(config_of(router_loss=asked, router_loss_coef=0.5)).train()
        losses[asked] = model(ids, labels=ids).loss
        besides = router_loss(model, None)
        assert (besides is not None) == asked
    assert float((losses[True] - losses[False]).detach()) == pytest.approx(float(besides.detach()), rel=1e-4)
    losses[True].backward()
    assert model.layers[1].mlp.router.weight.grad.abs().sum() > 0


def trained(enable=None, **mlp) -> MixFormerSequentialForCausalLM:
    """A model after one backward pass, with checkpointing as `enable` enables it."""
    torch.manual_seed(0)
    model = MixFormerSequentialForCausalLM(config_of(router_loss_coef=0.5, **mlp)).train()
    if enable is not None:
        enable(model)
        model.enable_input_require_grads()
    ids = torch.arange(20)[None] % 61
    model(ids, labels=ids).loss.backward()
    return model


def test_checkpointing_keeps_the_gradient_of_the_router_loss_or_is_refused(checkpoint_activations):
    def reentrant(model):
        checkpoint_activations(model, {"use_reentrant": True})

    def not_reentrant(model):
        checkpoint_activations(model, {"use_reentrant": False})

    plain, again = trained(router_loss=True), trained(not_reentrant, router_loss=True)
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match=r"router_loss.*use_reentrant"):
        trained(reentrant, router_loss=True)
    assert trained(reentrant)


def test_a_model_can_be_copied_after_a_step_of_training():
    model = trained(router_loss=True)
    copied = copy.deepcopy(model)
    assert all(torch.equal(one, copied.state_dict()[key]) for key, one in model.state_dict().items())
    assert model.layers[1].mlp.router_logits is not None and copied.layers[1].mlp.router_logits is None


def test_jitter_is_for_training_alone():
    moe = mixture(router_jitter=0.5)
    x = torch.randn(1, 5, 24)
    assert torch.equal(moe.eval()(x), moe(x))
    assert not torch.equal(moe.train()(x), moe(x))


def test_a_model_saves_loads_and_decodes_on_a_cache(tmp_path):
    torch.manual_seed(0)
    model = MixFormerSequentialForCausalLM(config_of(shared_inner=20, shared_gate=True)).eval()
    model.save_pretrained(tmp_path)
    again = MixFormerSequentialForCausalLM.from_pretrained(tmp_path)
    ids = torch.arange(12)[None]
    assert torch.equal(again(ids).logits, model(ids).logits)
    cache = again(ids[:, :7], use_cache=True).past_key_values
    rest = again(ids[:, 7:], past_key_values=cache).logits
    assert torch.allclose(rest, model(ids).logits[:, 7:], atol=1e-5)


@pytest.mark.parametrize(
    ("keywords", "why"),
    [
        ({"n_active": 6}, "n_active"),
        ({"n_experts": 0}, "n_active"),
        ({"shared_gate": True}, "shared_gate"),
        ({"experts_impl": "fast"}, "experts_impl"),
        ({"router_jitter": 1.0}, "router_jitter"),
        ({"norm_topk": "yes"}, "norm_topk"),
    ],
)
def test_what_cannot_be_is_refused_by_name(keywords, why):
    with pytest.raises(ConfigurationError, match=why):
        MixFormerSequentialForCausalLM(config_of(**keywords))


def test_an_unknown_keyword_is_refused():
    with pytest.raises(UnknownKeywordError, match="capacity"):
        MixFormerSequentialForCausalLM(config_of(capacity=1.25))
