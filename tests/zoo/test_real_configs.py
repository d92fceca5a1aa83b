"""Configs that people have are accepted, and models of another architecture under a known name are refused."""

import pytest

from converters.errors import Refused
from converters.plan.plan import make_plan

from .conftest import DEPTHS, FACTS, OURS, names


def shallow(config):
    """The config of the same model with two layers: its plan is the same, and is made at once."""
    cut = {name: 2 for name in DEPTHS if name in config}
    types = {"layer_types": config["layer_types"][:2]} if config.get("layer_types") else {}
    return {**config, **cut, **types}


def plan(config, folder):
    ours = config["model_type"] in OURS
    family = "mixformer" if ours else config["model_type"]
    return make_plan(folder, family, "phi" if ours else "mixformer")


@pytest.mark.parametrize("name", names(accepted=True))
def test_it_is_accepted(name, headers):
    config = shallow(FACTS[name]["config"])
    assert plan(config, headers(config)).tensors


@pytest.mark.parametrize("name", names(accepted=False))
def test_it_is_refused_for_this_reason(name, headers):
    config = shallow(FACTS[name]["config"])
    with pytest.raises(Refused) as refused:
        plan(config, headers(config))
    assert FACTS[name]["because"] in str(refused.value)


def test_there_are_kinds_of_every_age():
    assert len(names(accepted=True)) >= 60 and len(names(accepted=False)) >= 30
    assert {FACTS[name]["config"]["model_type"] for name in names(accepted=True)} >= {"llama", "gpt2", "phi3", *OURS}
