"""Several ways to say one thing in a MixFormer config resolve to one; what means something else is left as it is."""

import math

import pytest

from converters.config import layout

SIZES = {"vocab_size": 64, "n_embd": 48, "n_head": 4, "n_layer": 2, "n_positions": 32, "phyagi_version": "3.2.2"}
MIXER = "architecture.mixer."


def resolved(part="mixer", kind="mha", **keywords):
    return layout.resolve({**SIZES, "architecture": {part: {f"{part}_cls": kind, **keywords}}})


YARN = {"type": "yarn"}
SAME = {
    "empty rope_scaling": {"rope_scaling": {}},
    "default rope_scaling": {"rope_scaling": {"type": "default"}},
    "default with its theta": {"rope_scaling": {"rope_type": "default", "rope_theta": 10000}},
    "null type": {"rope_scaling": {"rope_type": None}},
    "device": {"device": None},
    "scale": {"softmax_scale": 1 / math.sqrt(12)},
    "scale to the last place": {"softmax_scale": math.nextafter(12**-0.5, 1)},
    "open window": {"window_size": [-1, 0]},
    "open window as text": {"window_size": "(-1,-1)"},
    "open window as a number": {"window_size": -1},
}


@pytest.mark.parametrize("case", SAME)
def test_a_default_that_is_said_is_a_default(case):
    assert resolved(**SAME[case]) == resolved()


@pytest.mark.parametrize(
    ("part", "kind", "keywords"),
    [
        ("mlp", "glu", {"dtype": None}),
        ("norm", "torch", {"device": None, "dtype": None, "elementwise_affine": True}),
        ("norm", "flash_rms", {"dropout_p": 0, "zero_centered_weight": False}),
        ("head", "causal_lm", {"dtype": None}),
    ],
)
def test_other_parts_too(part, kind, keywords):
    assert resolved(part, kind, **keywords) == resolved(part, kind)


DIFFERENT = {
    "another theta": {"rope_scaling": {"type": "default", "rope_theta": 5.0}},
    "another type": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "another scale": {"softmax_scale": 0.2886},
    "a window": {"window_size": "(3, 0)"},
    "a window to the right alone": {"window_size": [-1, 3], "causal": False},
    "device": {"device": "cuda"},
    "yarn twice": {"rope_scaling": YARN, "rope_parameters": {"rope_type": "yarn"}},
    "factor without yarn": {"rotary_scale_base": 2.0},
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_means_something_else_stays(case):
    found = resolved(**DIFFERENT[case])
    assert {name: found[MIXER + name] for name in DIFFERENT[case]} == DIFFERENT[case]


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({"dynamic": True}, 2.0),
        ({"extrapolation_factor": 0.5}, None),
        ({"factor": 2.0}, 2.0),
        ({"beta_fast": -1}, 2.0),
        ({"pos_idx_in_fp32": False}, 2.0),
        ({}, 0.5),
        ({}, "4"),
    ],
)
def test_a_yarn_without_another_spelling_stays_with_its_factor(options, factor):
    found = resolved(rope_scaling={**YARN, **options}, rotary_scale_base=factor)
    assert found[MIXER + "rope_scaling"] == {**YARN, **options, "rotary_scale_base": factor}
    assert found.get(MIXER + "rope_parameters") is None


def test_static_yarn_is_the_yarn_of_transformers():
    options = {"attn_factor": 2.0, "beta_fast": 16, "finetuned": True, "pos_idx_in_fp32": True, "dynamic": False}
    found = resolved(rope_scaling={**YARN, **options}, rotary_scale_base=4, rotary_base=500.0)
    assert found[MIXER + "rope_scaling"] is found[MIXER + "rotary_scale_base"] is None
    assert found[MIXER + "rope_parameters"] == {
        "rope_type": "yarn",
        "rope_theta": 500.0,
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        "attention_factor": 2 * (0.1 * math.log(4) + 1),
        "beta_fast": 16.0,
        "beta_slow": 1.0,
    }
    assert resolved(rope_scaling=YARN)[MIXER + "rope_parameters"]["attention_factor"] == 1.0


def test_where_nothing_turns_rope_says_nothing():
    assert resolved(rope_scaling=YARN, rotary_scale_base=2.0, rotary_dim=0) == resolved(rotary_dim=0)
