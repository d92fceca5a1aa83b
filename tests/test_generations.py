"""One table of configs of all generations, `generations.json`, read by the model and by the conversion alike."""

import json
from pathlib import Path

import pytest

from converters.config import layout
from converters.errors import ConfigRefused
from converters.generations import configs
from mixformer import MixFormerError, MixFormerSequentialConfig

TABLE = json.loads((Path(__file__).parent / "generations.json").read_text())


def converted(config):
    """What the conversion reads: dotted paths to values."""
    return meaning(layout.resolve(config))


def built(config):
    """What the model is built from."""
    return meaning(layout.resolve(MixFormerSequentialConfig.from_dict(config).to_dict()))


def meaning(resolved):
    return {path: value for path, value in resolved.items() if path in layout.TOP or path.startswith("architecture.")}


@pytest.mark.parametrize("name", TABLE)
def test_both_read_what_a_config_means(name):
    config, means = TABLE[name]["config"], TABLE[name]["means"]
    assert converted(config) == built(config)
    assert {path: converted(config)[path] for path in means} == means


@pytest.mark.parametrize("name", TABLE)
def test_the_generation_is_known_and_a_config_of_today_stays(name):
    config = TABLE[name]["config"]
    assert configs.generation_of(config) == TABLE[name]["generation"]
    assert config == json.loads(json.dumps(config))
    current = configs.current_config(config)
    assert configs.generation_of(current) == configs.SDK
    assert configs.current_config(current) == current


@pytest.mark.parametrize(
    ("constant", "value", "name"),
    [
        ("ROTARY_DIM", 16, "first without rotary_dim"),
        ("ROTARY_DIM", 64, "second without rotary_dim"),
        ("EPS", 1e-6, "second without eps"),
        ("ALIASES", {}, "second under names of transformers"),
    ],
)
def test_a_wrong_reading_would_be_noticed(constant, value, name, monkeypatch):
    monkeypatch.setattr(configs, constant, value)
    assert converted(TABLE[name]["config"]) != built(TABLE[name]["config"])


@pytest.mark.parametrize(
    "architecture",
    [
        {"mixer": {"rotary_dim": 32}},
        {"mixer": {"mixer_cls": "mha"}, "norm": {}},
        {"mixer": {"mixer_cls": "mha"}, "mlp": {}},
        {"mixer": {}, "mlp": {"n_inner": 4}},
    ],
    ids=str,
)
def test_a_part_without_its_class_is_refused_by_both(architecture):
    config = {**TABLE["first"]["config"], "architecture": architecture}
    with pytest.raises(ConfigRefused, match=r"_cls is missing"):
        converted(config)
    with pytest.raises(MixFormerError, match=r"_cls` must be specified"):
        built(config)


def test_one_field_with_two_names_and_two_values_is_refused():
    config = {**TABLE["second"]["config"], "hidden_size": 64}
    with pytest.raises(ConfigRefused, match="hidden_size is 64 and n_embd is 128"):
        converted(config)
