"""The layout of nGPT is the model's own, and its paths stand in a config that uses them and in no other."""

import copy

import pytest
import torch

from converters.config import layout
from converters.config.ngpt_layout import CHANGES_FUNCTION
from converters.errors import ConfigRefused
from converters.family import get_family, list_families
from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM

SIZES = {"vocab_size": 70, "n_embd": 48, "n_head": 4, "n_layer": 2, "n_positions": 32, "pad_vocab_size_multiple": 1}
SCALE = {"init": 1.0, "scaling": 0.25}
NGPT = {
    "block_cls": "ngpt",
    "residual": "lerp",
    "attn_alpha": SCALE,
    "mlp_alpha": SCALE,
    "norm": {"norm_cls": "l2"},
    "mixer": {"mixer_cls": "mha", "bias": False, "qk_l2_norm": True, "qk_scale": SCALE},
    "mlp": {"mlp_cls": "glu_scaled", "act_fn": "silu", "uv_scale": SCALE},
    "head": {"head_cls": "causal_lm", "use_bias": False, "use_norm": False, "logit_scale": SCALE},
}


def changed(**parts: dict) -> dict:
    """The architecture with keywords of parts changed, or left out where the value is Ellipsis."""
    architecture = copy.deepcopy(NGPT)
    for name, keywords in parts.items():
        place = architecture if name == "block" else architecture[name]
        place.update(keywords)
        for keyword in [keyword for keyword, value in place.items() if value is ...]:
            del place[keyword]
    return {**SIZES, "architecture": architecture}


def model_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = MixFormerSequentialForCausalLM(MixFormerSequentialConfig(**copy.deepcopy(config)))
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


VARIANTS = {
    "all scales": changed(),
    "biases": changed(mixer={"bias": True}, mlp={"bias": True}, head={"use_bias": True}),
    "an unused scale": changed(mlp={"uv_scale": {**SCALE, "used": False}}),
    "no logit scale": changed(head={"logit_scale": ...}),
    "a logit scale of null": changed(head={"logit_scale": None}),
    "no scale of q and k": changed(mixer={"qk_scale": ...}),
    "a final norm": changed(head={"use_norm": True}),
    "qk_norm": changed(mixer={"qk_norm": True}),
    "another width": changed(mlp={"n_inner": 40}),
    "heads of another width": changed(mixer={"head_dim": 8}),
    "plain GLU": changed(mlp={"mlp_cls": "glu", "uv_scale": ...}),
    "parts alone": {
        **SIZES,
        "architecture": {
            "block_cls": "parallel",
            "norm": {"norm_cls": "rms"},
            "mixer": {"mixer_cls": "mha", "rotary_style": "ngpt_nvidia", "rotary_formula": "exp", "qk_scale": SCALE},
            "mlp": {"mlp_cls": "glu_scaled", "uv_scale": SCALE},
            "head": {"head_cls": "causal_lm", "logit_scale": SCALE},
        },
    },
}


@pytest.mark.parametrize("name", VARIANTS)
def test_keys_and_shapes_are_those_of_the_model(name):
    config = VARIANTS[name]
    assert dict(layout.tensors(layout.resolve(config))) == model_shapes(config)


def test_a_missing_scale_would_be_seen():
    config = changed()
    with_scale = dict(layout.tensors(layout.resolve(config)))
    config["architecture"]["mixer"].pop("qk_scale")
    assert with_scale != model_shapes(config)


def test_scales_are_paths_of_their_own():
    found = layout.resolve(changed(mlp={"uv_scale": {**SCALE, "used": False}}))
    assert found["architecture.mixer.qk_scale.init"] == 1.0
    assert found["architecture.head.logit_scale.scaling"] == 0.25
    assert found["architecture.mlp.uv_scale.used"] is False
    assert "architecture.attn_alpha.used" not in found
    assert not {"architecture.mixer.qk_scale", "architecture.attn_alpha"} & set(found)


def test_neutral_values_are_absent():
    plain = {**SIZES, "architecture": {"mixer": {"mixer_cls": "mha"}, "head": {"head_cls": "causal_lm"}}}
    said = copy.deepcopy(plain)
    said["architecture"]["mixer"].update(
        rotary_style="half", rotary_formula="reciprocal", qk_l2_norm=False, qk_scale=None, attn_fn="softmax"
    )
    said["architecture"]["head"].update(use_norm=True, logit_scale=None)
    assert layout.resolve(said) == layout.resolve(plain)
    assert not CHANGES_FUNCTION & set(layout.resolve(plain))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (changed(block={"attn_alpha": ...}), "attn_alpha lacks init or scaling"),
        (changed(mlp={"uv_scale": ...}), "uv_scale lacks init or scaling"),
        (changed(mixer={"qk_scale": {"init": 1.0}}), "qk_scale lacks init or scaling"),
        (changed(mixer={"qk_scale": 3}), "qk_scale is 3, expected an object"),
        (changed(mixer={"qk_l2_norm": "yes"}), "qk_l2_norm is 'yes', expected true or false"),
        (changed(mlp={"uv_scale": {**SCALE, "used": 0}}), "uv_scale.used is 0, expected true or false"),
        (changed(block={"norm": {"norm_cls": "rms"}}), "norm_cls is 'rms'"),
    ],
)
def test_what_is_no_ngpt_is_refused(config, why):
    with pytest.raises(ConfigRefused, match=why):
        layout.tensors(layout.resolve(config))


LLAMA_LIKE = {
    **SIZES,
    "architecture": {
        "block_cls": "sequential",
        "norm": {"norm_cls": "rms", "eps": 1e-6},
        "mixer": {"mixer_cls": "mha", "bias": False, "out_bias": False},
        "mlp": {"mlp_cls": "glu", "act_fn": "silu"},
        "head": {"head_cls": "causal_lm", "use_bias": False},
    },
}


def test_another_family_refuses_what_it_has_no_word_for_and_offers_no_waiver():
    table = get_family("llama").config
    assert table.to_theirs(LLAMA_LIKE, "llama")["hidden_size"] == 48
    odd = copy.deepcopy(LLAMA_LIKE)
    odd["architecture"]["mixer"]["rotary_style"] = "ngpt_nvidia"
    with pytest.raises(ConfigRefused, match=r"architecture\.mixer\.rotary_style") as refusal:
        table.to_theirs(odd, "llama")
    assert "waive" not in str(refusal.value)
    with pytest.raises(ConfigRefused, match="cannot be ignored"):
        table.to_theirs(odd, "llama", waived=("architecture.mixer.rotary_style",))


OTHERS = [family.name for family in list_families(plugins=False) if not family.name.startswith("ngpt")]


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_family_takes_an_ngpt(name):
    with pytest.raises(ConfigRefused) as refusal:
        get_family(name).config.to_theirs(changed(), name)
    assert "waive" not in str(refusal.value)
