"""The layout that converts without the model is held equal to the model's own state dict."""

import json
from itertools import product

import pytest
import torch

from converters import convert
from converters.config import layout
from converters.config_alignment import differing_meaning
from converters.errors import ConfigRefused, Refused
from converters.plan.plan import make_plan
from converters.sample import write_sample
from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM

BLOCKS = ("sequential", "parallel")
MLPS = ("mlp", "fused_mlp", "glu")
NORMS = ("torch", "low_precision", "rms", "flash_rms")
SIZES = {"vocab_size": 70, "n_embd": 48, "n_head": 4, "n_layer": 2, "n_positions": 32}


def model_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = MixFormerSequentialForCausalLM(MixFormerSequentialConfig(**config))
    head = f"layers.{config['n_layer'] + 1}.linear.weight"
    state = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    return {k: v for k, v in state.items() if k != head or not config.get("tie_word_embeddings")}


@pytest.mark.parametrize(("block", "mlp", "norm"), list(product(BLOCKS, MLPS, NORMS)))
def test_keys_and_shapes_are_those_of_the_model(block, mlp, norm):
    architecture = {"block_cls": block, "mlp": {"mlp_cls": mlp}, "norm": {"norm_cls": norm}}
    config = {**SIZES, "architecture": architecture}
    assert dict(layout.tensors(layout.resolve(config))) == model_shapes(config)


QK_NORM = {"mixer_cls": "mha", "qk_norm": True}
VARIANTS = {
    "defaults": {},
    "tied": {"tie_word_embeddings": True},
    "positional": {"embd_layer": "positional"},
    "mixer": {"architecture": {"mixer": {"mixer_cls": "mha", "n_head_kv": 2, "head_dim": 8, "bias": False}}},
    "out bias": {"architecture": {"mixer": {"mixer_cls": "mha", "bias": False, "out_bias": True}}},
    "qk_norm": {"architecture": {"mixer": {"mixer_cls": "mha", "qk_norm": True}}},
    "head": {"architecture": {"head": {"head_cls": "causal_lm", "use_bias": False}}},
    "inner": {"n_inner": 40, "architecture": {"mlp": {"mlp_cls": "mlp"}}},
    "heads in the config": {"n_head_kv": 1},
    "norms before branches": {"architecture": {"block_cls": "residual"}},
    "norms after branches": {"architecture": {"block_cls": "residual", "norms": "after"}},
    "norms on both sides": {"architecture": {"block_cls": "residual", "norms": "both", "residual_scale": 0.5}},
    "norms without parameters": {"architecture": {"norm": {"norm_cls": "torch", "elementwise_affine": False}}},
    "norms around 1": {"architecture": {"norm": {"norm_cls": "torch", "zero_centered_weight": True}}},
    "norms of each head": {"architecture": {"mixer": {**QK_NORM, "n_head_kv": 2, "qk_norm_over": "each_head"}}},
    "norms over all heads": {"architecture": {"mixer": {**QK_NORM, "n_head_kv": 2, "qk_norm_over": "width"}}},
    "bounds": {"architecture": {"mixer": {"mixer_cls": "mha", "clip_qkv": 2.0, "softcap": 3.0}}},
    "an MLP without biases": {"architecture": {"mlp": {"mlp_cls": "mlp_no_bias"}}},
    "an activation that learns": {"architecture": {"mlp": {"mlp_cls": "mlp_xielu"}}},
    "scaled embeddings": {"embd_layer": "scaled", "embd_scale": 2.0},
    "scaled rows": {"embd_layer": "scaled_table", "embd_scale": 2.0, "tie_word_embeddings": True},
    "positions from row 2 on": {"embd_layer": "positional_offset"},
    "a norm behind the embedding": {"embd_layer": "normed", "architecture": {"norm": {"norm_cls": "rms"}}},
    "two norms": {"architecture": {"block_cls": "parallel_two_norms"}},
    "experts by default": {"architecture": {"mlp": {"mlp_cls": "moe"}}},
    "experts": {"architecture": {"mlp": {"mlp_cls": "moe", "n_experts": 3, "n_active": 1, "n_inner": 20}}},
    "experts and a shared one": {
        "architecture": {"mlp": {"mlp_cls": "moe", "n_experts": 3, "shared_inner": 28, "shared_gate": True}}
    },
    "a shared expert without a gate": {"architecture": {"mlp": {"mlp_cls": "moe", "shared_inner": 28}}},
    "scaled logits": {"architecture": {"head": {"head_cls": "causal_lm", "logit_multiplier": 2.0}}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_options_change_keys_and_shapes_as_in_the_model(variant):
    config = {**SIZES, **VARIANTS[variant]}
    assert dict(layout.tensors(layout.resolve(config))) == model_shapes(config)


@pytest.mark.parametrize("top", [None, 0, 4, 12, -1])
@pytest.mark.parametrize(
    "mixer", [{}, {"head_dim": 16}, {"n_head": 2}, {"n_head": 8}, {"head_dim": 8}, {"rotary_dim": 6}, {"rotary_dim": 0}]
)
def test_a_mixer_rotates_what_it_rotates_in_the_model(top, mixer):
    config = {**SIZES, "rotary_dim": top, "architecture": {"mixer": {"mixer_cls": "mha", **mixer}}}
    found = layout.resolve(config)["architecture.mixer.rotary_dim"]
    try:
        model = MixFormerSequentialForCausalLM(MixFormerSequentialConfig(**config))
    except ValueError:
        assert found > (mixer.get("head_dim") or 48 // mixer.get("n_head", 4))
        return
    assert max(found, 0) == model.layers[1].mixer.rotary_dim
    assert layout.resolve(config) == layout.resolve({**config, "rotary_dim": model.config.rotary_dim})


def test_a_rotary_dim_that_the_model_filled_in_is_no_difference():
    said = {**SIZES, "model_type": "mixformer-sequential", "architecture": {"block_cls": "parallel"}}
    ours = ("mixformer", "mixformer")
    assert differing_meaning({**said, "rotary_dim": 12}, said, ours) == []
    assert differing_meaning({**said, "rotary_dim": 8}, said, ours) != []


def test_a_converted_config_resolves_to_what_it_says(tmp_path):
    ours = convert(write_sample(tmp_path / "source"), output=tmp_path / "ours").output
    config = json.loads((ours / "config.json").read_text())
    assert dict(layout.tensors(layout.resolve(config))) == model_shapes(config)


def test_every_section_of_the_written_config_is_explicit(tmp_path):
    ours = convert(write_sample(tmp_path / "source"), output=tmp_path / "ours").output
    config = json.loads((ours / "config.json").read_text())
    architecture = config["architecture"]
    assert list(architecture) == ["block_cls", "norm", "mixer", "mlp", "head"]
    assert set(architecture["norm"]) == {"norm_cls", "eps"}
    explicit = {"mixer_cls", "n_head_kv", "head_dim", "rotary_dim", "rotary_base", "bias", "out_bias", "window_size"}
    assert explicit <= set(architecture["mixer"])
    assert set(architecture["mlp"]) == {"mlp_cls", "act_fn", "n_inner"}
    assert architecture["head"] == {"head_cls": "causal_lm", "use_bias": False}
    assert config["layer_norm_epsilon"] == architecture["norm"]["eps"]
    assert config["pad_vocab_size_multiple"] == 1


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"architecture": {"mixer": {"mixer_cls": "conv1d"}}}, "conv1d"),
        ({"architecture": {"mixer": 3}}, "expected an object"),
        ({"n_embd": None}, "n_embd is None"),
        ({"n_head": 4, "n_head_kv": 3}, "not a multiple"),
    ],
)
def test_what_the_layout_does_not_describe_is_refused(config, why):
    with pytest.raises(ConfigRefused, match=why):
        layout.tensors(layout.resolve({**SIZES, **config}))


@pytest.mark.parametrize("value", [None, "x", [], {}, True, 0, -1, 1.5])
@pytest.mark.parametrize("name", ["n_layer", "n_embd", "vocab_size", "n_positions", "n_head"])
def test_a_size_that_is_none_is_refused_before_it_is_used(name, value, tmp_path):
    ours = convert(write_sample(tmp_path / "source"), output=tmp_path / "ours").output
    config = json.loads((ours / "config.json").read_text())
    (ours / "config.json").write_text(json.dumps({**config, name: value}))
    with pytest.raises(Refused):
        make_plan(ours, to="llama")
