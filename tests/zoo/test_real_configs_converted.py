"""Every real config that is accepted, with small hot weights: the same function, and its own files on the way back."""

import json

import pytest
import torch
from safetensors.torch import save_file

from converters import convert
from converters.alignment import equal_folders
from golden import compare
from golden.models.hot import heat

from .conftest import FACTS, OURS, names, reference, stored
from .small import small

UNBUILT = {"phi3-02": "its rope is of 2024, and transformers 5 does not build it; the plan is made all the same"}
ALL = (name for name in names(accepted=True) if name not in UNBUILT)
THEIRS = [name for name in ALL if FACTS[name]["config"]["model_type"] not in OURS]


@pytest.fixture
def written(tmp_path):
    """Writes a folder of a config, with hot weights."""

    def make(config):
        folder = tmp_path / "theirs"
        with torch.random.fork_rng():
            model = reference(config, folder)
            heat(model, 0)
        save_file({key: value.contiguous() for key, value in stored(model).items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make


QUICK = ("gpt2-01", "phi3-04")  # without special tokens, in a context of 32 tokens; longrope


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in THEIRS])
def test_it_computes_the_same_and_comes_back_equal(name, written, tmp_path):
    config = small(FACTS[name]["config"])
    theirs = written(config)
    ours = convert(theirs, config["model_type"], output=tmp_path / "ours").output
    assert compare(ours, theirs).verdict == "PASS"
    back = convert(ours, "mixformer", to=config["model_type"], output=tmp_path / "back").output
    assert json.loads((back / "config.json").read_text()) == config
    assert equal_folders(theirs, back) == []


def test_other_special_tokens_than_those_of_transformers_are_seen(written, tmp_path):
    config = small(FACTS["gpt2-01"]["config"])
    theirs = written(config)
    ours = convert(theirs, "gpt2", output=tmp_path / "ours").output
    said = json.loads((ours / "config.json").read_text())
    (ours / "config.json").write_text(json.dumps(said | {"eos_token_id": 7}))
    assert "eos_token_id is 7, the reference says 50256" in compare(ours, theirs, levels=["L0"]).level("L0").detail
