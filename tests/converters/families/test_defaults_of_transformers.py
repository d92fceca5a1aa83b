"""What a config does not say is what its class in transformers says; configs as people have them are accepted."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from converters.config.layout import resolve
from converters.errors import ConfigRefused
from converters.family import get_family, list_families
from golden.models.hot import recipe
from golden.references.own_references import config_class

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
ZOO = [f.name for f in list_families(plugins=False) if f.hot is not None and set(SIZES) <= {*recipe(f.name).sizes}]


def said(family: str, **fields: Any) -> dict[str, Any]:
    """What transformers writes for a config with these fields."""
    return json.loads(config_class(recipe(family).config_class)(**fields).to_json_string(use_diff=False))


def test_the_zoo_is_large():
    assert len(ZOO) >= 20


@pytest.mark.parametrize("family", ZOO)
def test_a_field_that_is_not_said_has_the_default_of_its_class(family):
    config = get_family(family).config
    sizes = {name: recipe(family).sizes[name] for name in SIZES}
    sizes |= {"num_hidden_layers": 8, "hidden_size": 640, "num_attention_heads": 40}  # for every default of heads
    sizes |= {"head_dim": 16} if family == "helium" else {}
    sizes |= {"num_key_value_heads": 8} if "num_key_value_heads" in recipe(family).sizes else {}
    full, sparse = said(family, **sizes), {**sizes, "model_type": get_family(family).model_types[0]}
    one, other = resolve(config.to_ours(full, family)), resolve(config.to_ours(sparse, family))
    differing = {name for name in {*one, *other} - {"converted_from"} if one.get(name) != other.get(name)}
    assert differing <= {"dtype"}


@pytest.mark.parametrize("family", ZOO)
def test_the_default_config_of_transformers_is_accepted_and_comes_back(family):
    config, theirs = get_family(family).config, said(family)
    assert config.to_theirs(config.to_ours(theirs, family), family) == theirs


# Fields besides those that transformers writes today, as published models have them.
PUBLISHED: dict[str, dict[str, Any]] = {
    "starcoder2": {
        "activation_function": "gelu",
        "mlp_type": "default",
        "norm_type": "layer_norm",
        "rope_theta": 999999.4,
    },
    "gemma": {"hidden_act": "gelu", "hidden_activation": None, "rope_scaling": None, "rope_theta": 10000.0},
    "gemma2": {"hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid", "rope_theta": 10000.0},
    "gemma3-text": {
        "_sliding_window_pattern": 6,
        "sliding_window_pattern": 6,
        "cache_implementation": "hybrid",
        "rope_theta": 1000000,
        "rope_local_base_freq": 10000,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "smollm3": {"max_window_layers": 28, "pretraining_tp": 2, "rope_theta": 5000000.0, "rope_scaling": None},
    "exaone4": {"sliding_window_pattern": "LLLG", "layer_types": ["sliding_attention"] * 3 + ["full_attention"]},
    "cohere": {"pretraining_tp": 1, "model_max_length": 131072, "rope_theta": 8000000.0},
    "glm4": {"partial_rotary_factor": 0.5, "rope_theta": 10000.0},
    "nemotron": {"partial_rotary_factor": 0.5, "rope_theta": 10000.0, "rope_scaling": None},
    "stablelm": {"norm_eps": 1e-5, "partial_rotary_factor": 0.5, "rotary_scaling_factor": 1.0},
    "internlm3": {"bias": False, "qkv_bias": False, "rope_scaling": {"rope_type": "dynamic", "factor": 6.0}},
    "apertus": {"qk_norm": True, "post_norm": False, "mlp_bias": False},
    "olmo": {"clip_qkv": None, "rope_scaling": None, "rope_theta": 10000.0},
    "granite": {"rope_scaling": None, "rope_theta": 10000.0, "attention_multiplier": 0.0078125},
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_published_config_is_accepted_and_comes_back(family):
    config = get_family(family).config
    plain = {name: recipe(family).sizes[name] for name in SIZES}
    theirs = {"model_type": get_family(family).model_types[0], **plain, "num_hidden_layers": 4, **PUBLISHED[family]}
    theirs |= {"num_key_value_heads": 2} if family != "olmo" else {}
    assert config.to_theirs(config.to_ours(theirs, family), family) == theirs


@pytest.mark.parametrize(
    ("family", "fields", "words"),
    [
        ("starcoder2", {"mlp_type": "gated"}, "mlp_type is 'gated'"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention is true"),
        ("gemma3-text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0"),
        ("smollm3", {"no_rope_layers": [1, 2, 0]}, "no_rope_layers is"),
        ("smollm3", {"use_sliding_window": False, "layer_types": ["sliding_attention"] * 3}, "there is no window"),
        ("exaone4", {"sliding_window_pattern": "LLLG"}, "sliding_window_pattern is 'LLLG'"),
        ("stablelm", {"hidden_dropout": 0.1}, "hidden_dropout is 0.1"),
        ("stablelm", {"norm_eps": 1e-3}, "norm_eps is 0.001"),
        ("helium", {"head_dim": 20}, "head_dim is 20"),
        ("internlm3", {"attention_bias": True, "mlp_bias": False}, "one value for all biases"),
        ("ministral3", {"rope_parameters": {"rope_type": "default"}}, "llama_4_scaling_beta is None"),
        ("granite", {"logits_scaling": 0.0}, "logits_scaling is 0.0"),
        ("olmo", {"clip_qkv": -1.0}, "clip_qkv is -1.0"),
        ("gemma", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ],
)
def test_what_cannot_be_held_is_refused_by_name(family, fields, words):
    sizes = {name: recipe(family).sizes[name] for name in SIZES}
    theirs = {"model_type": get_family(family).model_types[0], **sizes, **fields}
    with pytest.raises(ConfigRefused, match=words.replace(".", r"\.")):
        get_family(family).config.to_ours(theirs, family)


BAD: tuple[Any, ...] = (None, "x", -1, 0, 2.5, True, [], {}, [1], {"a": 1}, 10**30, float("inf"))


@pytest.mark.parametrize("family", ZOO)
def test_a_value_of_any_kind_is_accepted_or_refused(family):
    """Nothing but a refusal is raised, whatever a field holds or lacks, on the way in; most of it is refused."""
    config, theirs = get_family(family).config, said(family, **recipe(family).sizes)
    refused = 0
    for name in theirs:
        lacking = {key: value for key, value in theirs.items() if key != name}
        for changed in (lacking, *({**theirs, name: bad} for bad in BAD)):
            try:
                config.to_ours(changed, family)
            except ConfigRefused:
                refused += 1
    assert refused > 60


def changed_in(value: Any, bad: Any) -> Iterator[Any]:
    """Copies of a nested object, each with one entry that is no object replaced, or lacking."""
    places = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in places:
        for one in changed_in(inner, bad) if isinstance(inner, dict | list) else (bad,):
            copied = dict(value) if isinstance(value, dict) else list(value)
            copied[key] = one
            yield copied


@pytest.mark.parametrize("family", ZOO)
def test_a_mixformer_with_a_value_of_any_kind_is_accepted_or_refused(family):
    config = get_family(family).config
    ours = config.to_ours(said(family, **recipe(family).sizes), family)
    ours = {name: value for name, value in ours.items() if name != "converted_from"}
    refused = 0
    for bad in (*BAD, "(3, 0)", 0.5):
        for changed in changed_in(ours, bad):
            try:
                config.to_theirs(changed, family)
            except ConfigRefused:
                refused += 1
    assert refused > 100
