"""Every family has a sample: transformers saves its model with exactly these tensors, and it converts both ways."""

import json

import pytest

from converters import convert, list_families
from converters.alignment import equal_folders
from converters.checkpoint.opening import open_checkpoint
from converters.sample import write_sample

from .conftest import reference

NAMES = [family.name for family in list_families(plugins=False) if not family.dialect_of]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_whole_model_and_comes_back(name, tmp_path):
    theirs = write_sample(tmp_path / "sample", name)
    found = {key: tensor.shape for key, tensor in open_checkpoint(theirs).tensors.items()}
    reference(json.loads((theirs / "config.json").read_text()), tmp_path / "a").save_pretrained(tmp_path / "again")
    assert found == {key: tensor.shape for key, tensor in open_checkpoint(tmp_path / "again").tensors.items()}
    ours = convert(theirs, name, output=tmp_path / "ours").output
    back = convert(ours, "mixformer", to=name, output=tmp_path / "back").output
    assert equal_folders(theirs, back) == []
