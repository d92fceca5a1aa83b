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

THEIRS = [name for name in names(accepted=True) if FACTS[name]["config"]["model_type"] not in OURS]


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


@pytest.mark.slow
@pytest.mark.parametrize("name", THEIRS)
def test_it_computes_the_same_and_comes_back_equal(name, written, tmp_path):
    config = small(FACTS[name]["config"])
    theirs = written(config)
    ours = convert(theirs, config["model_type"], output=tmp_path / "ours").output
    assert compare(ours, theirs).verdict == "PASS"
    back = convert(ours, "mixformer", to=config["model_type"], output=tmp_path / "back").output
    assert json.loads((back / "config.json").read_text()) == config
    assert equal_folders(theirs, back) == []
