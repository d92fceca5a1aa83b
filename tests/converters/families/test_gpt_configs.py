"""Configs of families with GPT-like names: defaults of their classes, published ones, and values of any kind."""

import json
from typing import Any

import pytest

from converters.config.layout import resolve
from converters.errors import ConfigRefused
from converters.family import get_family
from golden.models.hot import recipe
from golden.references.own_references import config_class

FAMILIES = ("gptneox", "gptneo", "gptbigcode", "opt", "bloom", "mpt", "falcon")
BAD: tuple[Any, ...] = (None, "x", -1, 0, 2.5, True, [], {}, [1], {"a": 1}, 10**30, float("inf"))
REQUIRED = {  # sizes that a config has to say, as published ones do
    "gptneox": ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    "gptneo": ("vocab_size", "hidden_size", "num_layers", "num_heads"),
    "gptbigcode": ("vocab_size", "n_embd", "n_layer", "n_head"),
    "opt": ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    "bloom": ("vocab_size", "hidden_size", "n_layer", "n_head"),
    "mpt": ("vocab_size", "d_model", "n_layers", "n_heads"),
    "falcon": ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
}


def said(family: str, **fields: Any) -> dict[str, Any]:
    """What transformers writes for a config with these fields."""
    return json.loads(config_class(recipe(family).config_class)(**fields).to_json_string(use_diff=False))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_default_config_of_transformers_is_accepted_and_comes_back(family):
    config, theirs = get_family(family).config, said(family)
    assert config.to_theirs(config.to_ours(theirs, family), family) == theirs


@pytest.mark.parametrize("family", FAMILIES)
def test_a_field_that_is_not_said_has_the_default_of_its_class(family):
    full = said(family)
    sparse = {name: full[name] for name in ("model_type", *REQUIRED[family])}
    config = get_family(family).config
    one, other = (resolve(config.to_ours(theirs, family)) for theirs in (full, sparse))
    differing = {name for name in {*one, *other} - {"converted_from"} if one.get(name) != other.get(name)}
    assert differing <= {"dtype", "use_cache"}, {name: (one.get(name), other.get(name)) for name in differing}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_value_of_any_kind_is_accepted_or_refused(family):
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


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixformer_with_a_value_of_any_kind_is_accepted_or_refused(family):
    config = get_family(family).config
    ours = config.to_ours(said(family, **recipe(family).sizes), family)
    paths = [(name, inner) for name, part in ours.items() for inner in (part if isinstance(part, dict) else [None])]
    refused = 0
    for name, inner in paths:
        for bad in (*BAD, "(3, 0)", 0.5):
            value = bad if inner is None else {**ours[name], inner: bad}
            try:
                config.to_theirs({**ours, name: value, "converted_from": None}, family)
            except ConfigRefused:
                refused += 1
    assert refused > 60


SUMMARY = {
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
}
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "Pythia": (
        "gptneox",
        {
            "hidden_size": 512,
            "num_hidden_layers": 6,
            "num_attention_heads": 8,
            "intermediate_size": 2048,
            "vocab_size": 50304,
            "rotary_pct": 0.25,
            "rotary_emb_base": 10000,
            "use_parallel_residual": True,
            "torch_dtype": "float16",
        },
    ),
    "GPT-NeoX 20B": (
        "gptneox",
        {
            "hidden_size": 6144,
            "num_hidden_layers": 44,
            "num_attention_heads": 64,
            "intermediate_size": 24576,
            "vocab_size": 50432,
            "hidden_act": "gelu_fast",
            "attention_probs_dropout_prob": 0,
            "hidden_dropout_prob": 0,
            "rotary_emb_base": 10000,
            "rotary_pct": 0.25,
        },
    ),
    "GPT-Neo": (
        "gptneo",
        {
            "hidden_size": 768,
            "num_layers": 12,
            "num_heads": 12,
            "vocab_size": 50257,
            "attention_types": [[["global", "local"], 6]],
            "attention_layers": ["global", "local"] * 6,
            "window_size": 256,
            "intermediate_size": None,
            "attention_dropout": 0,
            "embed_dropout": 0,
            "resid_dropout": 0,
            "gradient_checkpointing": False,
            **SUMMARY,
        },
    ),
    "StarCoder": (
        "gptbigcode",
        {
            "n_embd": 6144,
            "n_head": 48,
            "n_layer": 40,
            "n_inner": 24576,
            "n_positions": 8192,
            "vocab_size": 49152,
            "activation_function": "gelu",
            "multi_query": True,
            "attention_softmax_in_fp32": True,
            "scale_attention_softmax_in_fp32": True,
            "inference_runner": 0,
            "max_batch_size": None,
            "max_sequence_length": None,
            "pad_key_length": True,
            "pre_allocate_kv_cache": False,
            "validate_runner_input": True,
            **SUMMARY,
        },
    ),
    "OPT 125M": (
        "opt",
        {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "ffn_dim": 3072,
            "vocab_size": 50272,
            "word_embed_proj_dim": 768,
            "activation_dropout": 0.0,
            "do_layer_norm_before": True,
            "_remove_final_layer_norm": False,
            "init_std": 0.02,
            "layerdrop": 0.0,
            "prefix": "</s>",
        },
    ),
    "BLOOM 560M": (
        "bloom",
        {
            "n_embed": 1024,
            "n_layer": 24,
            "num_attention_heads": 16,
            "vocab_size": 250880,
            "seq_length": 2048,
            "offset_alibi": 100,
            "skip_bias_add": True,
            "skip_bias_add_qkv": False,
            "masked_softmax_fusion": True,
            "bias_dropout_fusion": True,
            "attention_softmax_in_fp32": True,
            "pretraining_tp": 1,
            "slow_but_exact": False,
            "unk_token_id": 0,
        },
    ),
    "MPT 7B": (
        "mpt",
        {
            "architectures": ["MPTForCausalLM"],
            "auto_map": {
                "AutoConfig": "configuration_mpt.MPTConfig",
                "AutoModelForCausalLM": "modeling_mpt.MPTForCausalLM",
            },
            "d_model": 4096,
            "n_heads": 32,
            "n_layers": 32,
            "vocab_size": 50432,
            "expansion_ratio": 4,
            "embedding_fraction": 1.0,
            "init_device": "cpu",
            "init_config": {"name": "kaiming_normal_", "verbose": 0},
            "learned_pos_emb": True,
            "no_bias": True,
            "norm_type": "low_precision_layernorm",
            "tokenizer_name": "EleutherAI/gpt-neox-20b",
            "verbose": 0,
            "attn_config": {"alibi": True, "alibi_bias_max": 8, "attn_impl": "torch", "clip_qkv": None, "qk_ln": False},
        },
    ),
    "Falcon 7B": (
        "falcon",
        {
            "hidden_size": 4544,
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "vocab_size": 65024,
            "multi_query": True,
            "new_decoder_architecture": False,
            "parallel_attn": True,
            "apply_residual_connection_post_layernorm": False,
            "alibi": False,
            "bias": False,
        },
    ),
    "Falcon 40B": (
        "falcon",
        {
            "hidden_size": 8192,
            "num_hidden_layers": 60,
            "num_attention_heads": 128,
            "num_kv_heads": 8,
            "vocab_size": 65024,
            "multi_query": True,
            "new_decoder_architecture": True,
            "parallel_attn": True,
            "alibi": False,
            "bias": False,
        },
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_accepted_and_comes_back(name):
    family, fields = PUBLISHED[name]
    theirs = {"model_type": get_family(family).model_types[0], **fields}
    config = get_family(family).config
    assert config.to_theirs(config.to_ours(theirs, family), family) == theirs


REFUSED = {
    "Falcon RW": ("falcon", {"alibi": True}, "Falcon RW rounds these biases to bfloat16"),
    "a Falcon with two norms and one decoder": ("falcon", {"new_decoder_architecture": False}, "cannot run such"),
    "OPT 350M, projected": ("opt", {"word_embed_proj_dim": 24}, "embeddings are projected"),
    "OPT 350M, norms behind": ("opt", {"do_layer_norm_before": False}, "norms behind the sums"),
    "OPT before 4.20": ("opt", {"_remove_final_layer_norm": True}, "_remove_final_layer_norm"),
    "norms without weights": ("opt", {"layer_norm_elementwise_affine": False}, "its norms have no weights"),
    "BLOOM with other residuals": ("bloom", {"apply_residual_connection_post_layernorm": True}, "not its norm"),
    "MPT without biases of scores": ("mpt", {"attn_config": {"alibi": False}}, "as if it were not so"),
    "MPT StoryWriter": ("mpt", {"attn_config": {"alibi_bias_max": 16}}, "alibi_bias_max is 16"),
    "MPT with a field in attn_config": ("mpt", {"attn_config": {"rope": True}}, "unknown fields: rope"),
    "MPT with wide MLPs": ("mpt", {"expansion_ratio": 2}, "expansion_ratio is 2"),
    "GPT-Neo with another kind": (
        "gptneo",
        {"attention_types": [[["global", "sparse", "local"], 1]]},
        "attention_types",
    ),
    "GPT-NeoX with odd pairs": ("gptneox", {"rope_parameters": None, "rotary_pct": 0.25}, "3 rotating dimensions"),
    "two percentages": ("gptneox", {"rotary_pct": 1.0}, "expected one value"),
    "a cross attention": ("gptbigcode", {"add_cross_attention": True}, "without an encoder"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_held_is_refused_by_name(what):
    family, fields, words = REFUSED[what]
    theirs = {**said(family, **recipe(family).sizes), **fields}
    if what == "a Falcon with two norms and one decoder":
        theirs["num_ln_in_parallel_attn"] = 2
    with pytest.raises(ConfigRefused, match=words):
        get_family(family).config.to_ours(theirs, family)
