"""Parts that families like GPT-NeoX, OPT, BLOOM and MPT need, each by its formula and by hand in an architecture."""

import pytest
import torch
from transformers.models.bloom.modeling_bloom import BloomGelu, build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM
from mixformer.blocks.mixers.alibi import Alibi
from mixformer.blocks.mlps.sizes import BloomGELU
from mixformer.errors import ConfigurationError, InputError

SIZES = {"vocab_size": 61, "n_embd": 24, "n_head": 3, "n_layer": 2, "n_positions": 16, "pad_vocab_size_multiple": 1}
IDS = torch.arange(14)[None]


def model(block=None, mixer=None, mlp=None, **top):
    torch.manual_seed(0)
    architecture = {"block_cls": block or "sequential", "mixer": {"mixer_cls": "mha", **(mixer or {})}}
    architecture["mlp"] = {"mlp_cls": "mlp", **(mlp or {})}
    made = MixFormerSequentialForCausalLM(MixFormerSequentialConfig(**SIZES, architecture=architecture, **top)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_the_parallel_block_with_two_norms_adds_both_branches_of_one_input():
    block = model("parallel_two_norms").layers[1]
    assert [name for name, _ in block.named_children()] == ["mixer", "mlp", "resid_dropout", "ln_1", "ln_2"]
    x = torch.randn(1, 5, 24)
    expected = x + block.mixer(block.ln_1(x)) + block.mlp(block.ln_2(x))
    assert torch.allclose(block(x)[0], expected, atol=1e-6)


def test_it_is_the_parallel_block_where_both_norms_are_equal():
    two, one = model("parallel_two_norms"), model("parallel")
    weights = two.state_dict()
    for key in [key for key in weights if ".ln_2." in key]:
        weights[key] = weights[key.replace("ln_2", "ln_1")]
    two.load_state_dict(weights)
    renamed = {key.replace("ln_1", "ln"): value for key, value in weights.items() if ".ln_2." not in key}
    one.load_state_dict(renamed)
    assert torch.allclose(two(IDS).logits, one(IDS).logits, atol=1e-5)


def test_a_normed_embedding_has_the_norm_of_the_blocks_behind_it():
    embedding = model(embd_layer="normed").layers[0]
    assert torch.allclose(embedding(IDS), embedding.ln(embedding.wte(IDS)))
    with_rms = MixFormerSequentialConfig(
        **SIZES, embd_layer="normed", architecture={"norm": {"norm_cls": "rms", "eps": 1e-3}}
    )
    made = MixFormerSequentialForCausalLM(with_rms)
    assert made.layers[0].ln.eps == 1e-3 and type(made.layers[0].ln) is type(made.layers[1].ln)


def test_positions_from_row_two_on():
    made = model(embd_layer="positional_offset", mixer={"rotary_dim": 0})
    embedding = made.layers[0]
    assert embedding.wpe.weight.shape == (18, 24)
    assert torch.allclose(embedding(IDS), embedding.wte(IDS) + embedding.wpe.weight[2:16])
    with pytest.raises(InputError, match="n_positions = 16"):
        made(torch.arange(17)[None])


@pytest.mark.parametrize("heads", range(1, 41))
def test_slopes_are_bit_for_bit_those_of_bloom_and_mpt(heads):
    of_two = build_alibi_tensor(torch.ones(1, 2, dtype=torch.int64), heads, torch.float32)  # at the distances 0 and 1
    assert torch.equal(Alibi(heads, "bloom").slopes(), of_two[:, 0, 1])
    for largest in (8, 16):
        theirs = -build_mpt_alibi_tensor(heads, 2, largest)[:, 0, 0]
        assert torch.equal(Alibi(heads, "mpt", largest).slopes(), theirs)


def test_the_formulas_differ_in_their_last_bits():
    exact, bloom, mpt = (Alibi(24, formula).slopes() for formula in ("exact", "bloom", "mpt"))
    assert not torch.equal(exact, bloom)
    assert torch.allclose(exact, bloom, rtol=1e-6) and torch.allclose(exact, mpt, rtol=1e-6)
    assert not torch.allclose(mpt, Alibi(24, "mpt", 16.0).slopes(), rtol=1e-2)


def test_an_alibi_of_each_formula_is_a_bias_of_scores_by_distance():
    plain = model(mixer={"rotary_dim": 0})
    for formula in ("exact", "bloom", "mpt"):
        biased = model(mixer={"rotary_dim": 0, "use_alibi": True, "alibi_formula": formula})
        biased.load_state_dict(plain.state_dict())
        assert not torch.allclose(biased(IDS).logits, plain(IDS).logits, atol=1e-3)
        slopes = biased.layers[1].attn.inner_attn.alibi_slopes
        assert torch.equal(slopes, Alibi(3, formula).slopes())


def test_the_gelu_of_bloom_is_its_own():
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    assert torch.equal(BloomGELU()(x), BloomGelu()(x))
    gap = (BloomGELU()(x) - torch.nn.functional.gelu(x, approximate="tanh")).abs().max()
    assert 1e-11 < float(gap) < 1e-8
    assert model(mlp={"act_fn": "gelu_bloom"})(IDS).logits.isfinite().all()


@pytest.mark.parametrize(
    ("mixer", "why"),
    [
        ({"alibi_formula": "bloom"}, "without use_alibi"),
        ({"use_alibi": True, "alibi_formula": "falcon"}, "alibi_formula"),
        ({"use_alibi": True, "alibi_bias_max": 16.0}, "alibi_bias_max"),
        ({"use_alibi": True, "alibi_formula": "mpt", "alibi_bias_max": -1.0}, "alibi_bias_max"),
    ],
)
def test_what_no_formula_is_known_for_is_refused(mixer, why):
    with pytest.raises(ConfigurationError, match=why):
        model(mixer=mixer)
