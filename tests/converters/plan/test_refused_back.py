"""What LLaMA cannot express is refused by the field's name, never dropped: the SDK's own converter is wrong here."""

import json

import pytest

from converters import convert
from converters.errors import ConfigRefused, CoverageRefused
from converters.sample import write_sample


@pytest.fixture
def ours(tmp_path):
    return convert(write_sample(tmp_path / "source"), output=tmp_path / "ours").output


def set_path(folder, path, value):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    *parents, name = path.split(".")
    place = config
    for parent in parents:
        place = place[parent]
    place[name] = value
    file.write_text(json.dumps(config))


INEXPRESSIBLE = {
    "architecture.block_cls": "parallel",
    "architecture.norm.norm_cls": "torch",
    "architecture.mixer.qk_norm": True,
    "architecture.mixer.softmax_scale": 0.5,
    "architecture.mixer.use_alibi": True,
    "architecture.mixer.causal": False,
    "architecture.mixer.window_size": "(127, 0)",
    "architecture.mixer.rotary_dim": 8,
    "architecture.mixer.rotary_scale_base": 2.0,
    "architecture.mixer.rope_scaling": {"rope_type": "yarn", "dynamic": True},
    "architecture.mixer.out_bias": True,
    "architecture.mixer.frobnicate": 1,
    "architecture.mlp.mlp_cls": "mlp",
    "architecture.mlp.extra": 1,
    "architecture.head.use_bias": True,
    "architecture.extra": 1,
    "embd_layer": "positional",
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "extra": 1,
}


@pytest.mark.parametrize("path", INEXPRESSIBLE)
def test_what_llama_cannot_express_is_refused_by_name(path, ours, tmp_path):
    set_path(ours, path, INEXPRESSIBLE[path])
    with pytest.raises(ConfigRefused, match=path.replace(".", r"\.")):
        convert(ours, to="llama", output=tmp_path / "back")
    assert not (tmp_path / "back").exists()


def as_list(ours):
    """The same model with a list architecture: head and final norm stand at the top level."""
    config = json.loads((ours / "config.json").read_text())
    architecture = config.pop("architecture")
    config |= {"architecture": [architecture] * 3, "head": architecture["head"], "final_norm": architecture["norm"]}
    (ours / "config.json").write_text(json.dumps(config))
    return config


def test_a_list_of_like_layers_is_what_its_dict_is(ours, tmp_path):
    as_list(ours)
    back = convert(ours, to="llama", output=tmp_path / "back").output
    assert json.loads((back / "config.json").read_text()) == json.loads((tmp_path / "source/config.json").read_text())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda c: c["architecture"].__setitem__(2, {**c["architecture"][2], "block_cls": "parallel"}),
            r"\[2\]\.block",
        ),
        (lambda c: c.pop("final_norm"), "final_norm"),
        (lambda c: c.pop("head"), "architecture.head.use_bias"),
    ],
    ids=["differing layers", "the SDK's final norm", "the SDK's head"],
)
def test_what_only_a_list_can_say_is_refused_by_name(change, sentence, ours, tmp_path):
    config = as_list(ours)
    change(config)
    (ours / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigRefused, match=sentence):
        convert(ours, to="llama", output=tmp_path / "back")


def test_bias_is_on_unless_it_is_said_to_be_off(ours, tmp_path):
    config = json.loads((ours / "config.json").read_text())
    del config["architecture"]["mixer"]["bias"], config["architecture"]["mixer"]["out_bias"]
    (ours / "config.json").write_text(json.dumps(config))
    with pytest.raises(CoverageRefused, match=r"Wqkv\.bias"):
        convert(ours, to="llama", output=tmp_path / "back")


def test_eps_comes_from_the_norm_and_never_from_layer_norm_epsilon(ours, tmp_path):
    set_path(ours, "layer_norm_epsilon", 0.5)
    back = convert(ours, to="llama", output=tmp_path / "back").output
    assert json.loads((back / "config.json").read_text())["rms_norm_eps"] == 1e-5
