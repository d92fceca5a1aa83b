"""First values in later layers, and what else the later dialects of nGPT ask of a MixFormer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM
from mixformer.blocks.unit_linear import UnitLinear
from mixformer.errors import ConfigurationError, InputError

SCALE = {"init": 1.0, "scaling": 0.2}
ARCHITECTURE: dict[str, Any] = {
    "block_cls": "ngpt",
    "residual": "lerp",
    "attn_alpha": SCALE,
    "mlp_alpha": SCALE,
    "signed_rates": True,
    "normalize_stream": False,
    "norm": {"norm_cls": "l2", "eps": 1e-12},
    "mixer": {"mixer_cls": "mha", "bias": False, "qk_l2_norm": True, "qk_scale": SCALE, "qk_scaled": "q"}
    | {"value_residual": True, "unit_weights": True},
    "mlp": {"mlp_cls": "glu_scaled", "act_fn": "silu", "uv_scale": SCALE, "gate_init": 4.0, "unit_weights": True},
    "head": {"head_cls": "causal_lm", "use_bias": False, "use_norm": False, "unit_weights": True},
}
IDS = torch.randint(0, 41, (2, 13), generator=torch.Generator().manual_seed(0))


def made(embd_layer: str = "unit", tied: bool = False, **mixer: Any) -> MixFormerSequentialForCausalLM:
    architecture = copy.deepcopy(ARCHITECTURE)
    architecture["mixer"] |= mixer
    sizes: dict[str, Any] = {"n_embd": 24, "n_head": 4, "n_layer": 3, "vocab_size": 41, "pad_vocab_size_multiple": 1}
    config = MixFormerSequentialConfig(
        **sizes, n_positions=64, embd_layer=embd_layer, tie_word_embeddings=tied, architecture=architecture
    )
    torch.manual_seed(0)
    return MixFormerSequentialForCausalLM(config).double()


def gradients(model: MixFormerSequentialForCausalLM) -> dict[str, Tensor]:
    model.zero_grad()
    model.train()
    model(IDS, labels=IDS).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_checkpointing_that_is_not_reentrant_gives_the_same_gradients(
    checkpoint_activations: Callable[..., None],
) -> None:
    model = made()
    plain = gradients(model)
    checkpoint_activations(model, {"use_reentrant": False})
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, plain[name], rtol=0, atol=1e-14), name
    assert float(plain["layers.1.attn.Wqkv.weight"].abs().max()) > 0


def test_reentrant_checkpointing_is_refused_where_first_values_go_beside_the_stream(
    checkpoint_activations: Callable[..., None],
) -> None:
    model = made()
    checkpoint_activations(model, {"use_reentrant": True})
    with pytest.raises(InputError, match="use_reentrant"):
        gradients(model)
    other = made(value_residual=False)
    checkpoint_activations(other, {"use_reentrant": True})
    other.enable_input_require_grads()
    assert gradients(other)


def test_first_values_change_later_layers_and_not_the_first() -> None:
    one, other = made().eval(), made(value_residual=False).eval()
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        streams = [model(IDS, output_hidden_states=True).hidden_states for model in (one, other)]
    assert torch.equal(streams[0][1], streams[1][1])
    assert float((streams[0][2] - streams[1][2]).abs().max()) > 1e-3


def test_a_later_layer_alone_has_no_first_values() -> None:
    model = made().eval()
    x = torch.randn(1, 5, 24, dtype=torch.float64)
    assert model.layers[1].attn(x).shape == x.shape
    with pytest.raises(InputError, match="needs the values of the first layer"):
        model.layers[2].attn(x)


@pytest.mark.parametrize("tied", [True, False])
def test_matrices_of_any_length_are_used_as_of_length_one(tied: bool) -> None:
    model = made(tied=tied).eval()
    with torch.no_grad():
        before = model(IDS).logits
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                columns = "out_proj" in name or "fc2" in name
                shape = (1, parameter.shape[1]) if columns else (parameter.shape[0], 1)
                parameter.mul_(0.5 + torch.rand(shape, dtype=torch.float64))
        assert torch.allclose(model(IDS).logits, before, rtol=0, atol=1e-14)
        model.layers[2].mlp.fc2.weight[0] *= 2  # and a row of it is no such change
        assert not torch.allclose(model(IDS).logits, before, rtol=0, atol=1e-6)


def test_a_resized_head_is_used_in_the_same_way() -> None:
    model = made().eval()
    model.resize_token_embeddings(47)
    assert isinstance(model.get_output_embeddings(), UnitLinear)
    with torch.no_grad():
        before = model(IDS).logits
        model.layers[-1].linear.weight.mul_(3.0)
        assert torch.allclose(model(IDS).logits, before, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"qk_order": "last"}, "qk_order"),
        ({"qk_l2_span": "all"}, "qk_l2_span"),
        ({"qk_scaled": "k"}, "qk_scaled"),
        ({"qk_scaled": "q", "qk_scale": None}, "there is no"),
        ({"rotary_table": "float16"}, "rotary_table"),
        ({"rotary_table": "bfloat16", "rotary_dim": 0}, "rotary_table"),
        ({"rotary_table": "bfloat16", "rotary_style": "ngpt_nvidia"}, "rotary_table"),
        ({"qk_scaled": "qk", "n_head_kv": 2}, "n_head_kv"),
    ],
    ids=str,
)
def test_keywords_that_cannot_be(keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        made(**keywords)


@pytest.mark.parametrize("table", ["float32", "bfloat16"])
def test_tables_in_bfloat16_hold_numbers_of_bfloat16(table: str) -> None:
    rotary = made(rotary_table=table).layers[1].attn.rotary_emb
    cos, sin = rotary.tables(torch.arange(300)[None], torch.float64)
    narrow = all(torch.equal(part, part.to(torch.bfloat16).double()) for part in (cos, sin))
    assert narrow == (table == "bfloat16")
    angles = (torch.arange(300).float()[:, None] * rotary.inv_freq.float()).double()
    assert float((cos[0, :, 0] - angles.cos()).abs().max()) < (2.0**-8 if narrow else 1e-4)
