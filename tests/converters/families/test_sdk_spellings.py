"""What the SDK's configs say in ways of their own converts, and means the same: logits of both sides agree."""

import json
from pathlib import Path

import pytest
import torch

import mixformer
from converters import convert
from converters.errors import ConfigRefused
from golden import compare

SIZES = {"vocab_size": 64, "n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 40, "tie_word_embeddings": False}


def llama_like(**mixer) -> dict:
    return {
        "block_cls": "sequential",
        "norm": {"norm_cls": "rms", "eps": 1e-5, "device": None, "dtype": None},
        "mixer": {"mixer_cls": "mha", "bias": False, "n_head_kv": 2, "device": None, **mixer},
        "mlp": {"mlp_cls": "glu", "act_fn": "silu", "n_inner": 72, "dtype": None},
        "head": {"head_cls": "causal_lm", "use_bias": False, "dtype": None},
    }


def phi_like(**mixer) -> dict:
    return {
        "block_cls": "parallel",
        "norm": {"norm_cls": "torch", "elementwise_affine": True},
        "mixer": {"mixer_cls": "mha", "rotary_dim": 8, **mixer},
        "mlp": {"mlp_cls": "mlp", "act_fn": "gelu_new", "n_inner": 256},
        "head": {"head_cls": "causal_lm"},
    }


def saved(place: Path, architecture: dict, **config) -> Path:
    """A hot MixFormer: peaked attention, so that a wrong scale or frequency is seen."""
    torch.manual_seed(5)
    given = mixformer.MixFormerSequentialConfig(**{**SIZES, **config}, architecture=architecture)
    model = mixformer.MixFormerSequentialForCausalLM(given)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(0.0 if name.endswith("bias") else 1.0, 0.2)
            else:
                parameter.normal_(0.0, 1.5 * parameter.shape[-1] ** -0.5)
    model.save_pretrained(place)
    return place


YARN = {"rope_scaling": {"type": "yarn", "beta_slow": 0.1}, "rotary_scale_base": 4.0, "rotary_base": 500.0}
MIXERS = {
    "empty rope_scaling": {"rope_scaling": {}},
    "default rope_scaling": {"rope_scaling": {"rope_type": "default"}},
    "the default scale": {"softmax_scale": 0.25},
    "an open window": {"window_size": [-1, -1]},
    "yarn": YARN,
    "yarn in every word": {
        **YARN,
        "rope_scaling": {
            "rope_type": "yarn",
            "attn_factor": 1.5,
            "beta_fast": 8.0,
            "beta_slow": 2,
            "extrapolation_factor": 1,
            "dynamic": False,
            "finetuned": True,
            "pos_idx_in_fp32": True,
        },
    },
    "yarn without a factor": {"rope_scaling": {"type": "yarn"}},
}
TARGETS = {"llama": llama_like, "mistral": llama_like, "phi": phi_like}


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("case", MIXERS)
def test_the_sdks_spelling_converts_to_the_same_function(case, to, tmp_path):
    ours = saved(tmp_path / "ours", TARGETS[to](**MIXERS[case]))
    back = convert(ours, to=to, output=tmp_path / "theirs").output
    verdict = compare(back, ours, levels=["L0", "L1", "L2"])
    assert [level.status for level in verdict.levels[:3]] == ["PASS"] * 3, verdict
    assert verdict.level("L2").number <= 1e-10
    again = convert(back, output=tmp_path / "again").output
    assert compare(again, ours, levels=["L2"]).level("L2").number <= 1e-10


def changed(config: dict, **parameters) -> dict:
    rope = {name: {**config[name], **parameters} for name in ("rope_parameters", "rope_scaling") if config.get(name)}
    return {**config, **rope}


WRONG = {
    "another factor": {"factor": 4.04},
    "a factor of cosines": {"attention_factor": 1.0},
    "another original length": {"original_max_position_embeddings": 80},
    "another ramp": {"beta_slow": 1.0},
    "no yarn": {"rope_type": "default"},
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_yarn_that_was_converted_wrongly_would_fail(fault, tmp_path):
    ours = saved(tmp_path / "ours", llama_like(**YARN))
    back = convert(ours, to="llama", output=tmp_path / "theirs").output
    config = json.loads((back / "config.json").read_text())
    (back / "config.json").write_text(json.dumps(changed(config, **WRONG[fault])))
    (back / "conversion.json").unlink()
    assert compare(back, ours, levels=["L2"]).verdict == "FAIL"


REFUSED = {
    "dynamic": ({"dynamic": True}, "rope_scaling"),
    "share of extrapolation": ({"extrapolation_factor": 0.5}, "rope_scaling"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_yarn_that_transformers_has_no_word_for_is_refused_by_name(case, tmp_path):
    options, name = REFUSED[case]
    ours = saved(tmp_path / "ours", llama_like(**{**YARN, "rope_scaling": {"type": "yarn", **options}}))
    with pytest.raises(ConfigRefused, match=name):
        convert(ours, to="llama", output=tmp_path / "theirs")


def test_a_scale_that_only_looks_like_the_default_is_refused(tmp_path):
    ours = saved(tmp_path / "ours", llama_like(softmax_scale=0.2501))
    with pytest.raises(ConfigRefused, match="softmax_scale"):
        convert(ours, to="llama", output=tmp_path / "theirs")
