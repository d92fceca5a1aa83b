"""All that stands in the way of one config is told at once: the class first, unknown fields last, as words to paste."""

import json
import shlex
from dataclasses import replace

import pytest

from converters import convert
from converters.config.entries import Flag
from converters.conversion import Request
from converters.errors import ConfigRefused
from converters.family import get_family
from converters.plan.options import Options
from converters.sample import write_sample


@pytest.fixture
def source(tmp_path):
    return write_sample(tmp_path / "source")


def changed(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def refusal(source, *waived) -> str:
    with pytest.raises(ConfigRefused) as refused:
        convert(source, output=source.parent / "ours", request=Request(options=Options(waive=waived)))
    assert not (source.parent / "ours").exists()
    return str(refused.value)


MANY = {f"unknown_{k}": k for k in range(14)}


def test_every_unknown_field_is_named_in_words_that_can_be_pasted(source):
    changed(source, **MANY)
    said = refusal(source)
    words = shlex.split(said.rpartition("add: ")[2])
    assert words == [word for name in MANY for word in ("--waive", name)]
    options = Options(waive=tuple(word for word in words if word != "--waive"))
    convert(source, output=source.parent / "ours", request=Request(options=options))


def test_a_field_with_a_space_in_its_name_can_be_pasted(source):
    changed(source, **{"a b": 1})
    assert refusal(source).endswith("--waive 'a b'")


def test_obstacles_of_all_kinds_are_told_together_unknown_fields_last(source):
    changed(source, hidden_act="arcsine", pad_token_id="x", num_experts=8, one=1, two=2)
    first, *lines = refusal(source).splitlines()
    assert first == "this model cannot be converted, for 4 reasons:"
    assert all(line.startswith("  - ") for line in lines)
    assert lines[-1].endswith("add: --waive one --waive two")
    assert all(any(name in line for line in lines[:-1]) for name in ("hidden_act", "pad_token_id", "num_experts"))


def test_another_class_is_told_first_and_its_fields_are_not_waived(source):
    changed(source, architectures=["Eagle3LlamaForCausalLM"], draft_vocab_size=32000, hidden_act="arcsine")
    _, *lines = refusal(source).splitlines()
    assert lines[0].startswith("  - architectures is ['Eagle3LlamaForCausalLM']")
    assert lines[-1] == "  - config.json has fields that a llama does not have: draft_vocab_size"
    assert "hidden_act" in lines[1] and len(lines) == 3


def test_what_follows_from_an_obstacle_is_not_told_and_is_no_fault(source):
    changed(source, hidden_size="x", num_attention_heads=None)
    said = refusal(source)
    assert "hidden_size is 'x'" in said and "num_attention_heads is null" in said


def test_a_wrong_waiver_is_told_with_the_rest(source):
    changed(source, one=1)
    said = refusal(source, "nothing")
    assert "--waive nothing: it is not a field" in said and "--waive one" in said


@pytest.mark.parametrize(
    ("field", "suggested"), [("rms_norms_eps", "rms_norm_eps"), ("sliding_window_size", ""), ("eod_token_id", "")]
)
def test_only_a_misspelt_name_is_asked_about(field, suggested, source):
    if suggested:
        config = json.loads((source / "config.json").read_text())
        del config[suggested]
        (source / "config.json").write_text(json.dumps(config))
    changed(source, **{field: 1})
    said = refusal(source)
    assert (f"{field} (did you mean {suggested}?)" in said) if suggested else ("did you mean" not in said)


ROPE = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize("field", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("waiver", ["rope_parameters", "rope_scaling"])
def test_a_name_inside_a_rope_is_waived_recorded_and_comes_back(field, waiver, source, tmp_path):
    config = json.loads((source / "config.json").read_text())
    del config["rope_parameters"]
    config |= {"rope_theta": 1e4, field: {**ROPE, "attn_factor": 0.9, "finetuned": True}}
    (source / "config.json").write_text(json.dumps(config))
    said = refusal(source)
    assert "other readers multiply attention by it" in said and "did you mean" not in said
    assert said.endswith("--waive rope_parameters.attn_factor --waive rope_parameters.finetuned")
    waived = (f"{waiver}.attn_factor", f"{waiver}.finetuned")
    ours = convert(source, output=tmp_path / "ours", request=Request(options=Options(waive=waived))).output
    made = json.loads((ours / "config.json").read_text())
    assert made["converted_from"]["waived"] == sorted(waived)
    assert "attn_factor" not in made["architecture"]["mixer"]["rope_parameters"]
    assert json.loads((ours / "conversion.json").read_text())["options"]["waive"] == sorted(waived)
    back = convert(ours, to="llama", output=tmp_path / "back").output
    assert json.loads((back / "config.json").read_text()) == config


@pytest.mark.parametrize("name", ["factor", "beta_fast", "rope_type", "nothing"])
def test_a_name_inside_a_rope_that_is_converted_cannot_be_waived(name, source):
    changed(source, rope_parameters={**ROPE, "beta_fast": 16.0, "attn_factor": 0.9})
    said = refusal(source, "rope_parameters.attn_factor", f"rope_parameters.{name}")
    assert f"--waive rope_parameters.{name}: it " in said


def test_one_field_of_theirs_cannot_say_two_things(source):
    """A family whose two entries write one field: a MixFormer where they differ is refused, and never half said."""
    family = get_family("llama")
    table = replace(family.config, entries=(*family.config.entries, Flag("mlp_bias", "architecture.mixer.bias")))
    ours = table.to_ours(json.loads((source / "config.json").read_text()), "llama")
    assert table.to_theirs(ours, "llama")["mlp_bias"] is False
    ours["architecture"]["mixer"]["bias"] = True
    with pytest.raises(ConfigRefused, match="mlp_bias False by one of its fields and True by another"):
        table.to_theirs(ours, "llama")
