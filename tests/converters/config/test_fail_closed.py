"""Where the SDK would compute something else, the config holds an entry on which it raises (docs/sdk-extensions.md)."""

import json
from pathlib import Path

import pytest

from converters import convert
from converters.config.layout import BIASED_GLU
from converters.config.mixer_defaults import MIXER

# The registries and keywords of the SDK (PhyAGI 3.2.2): any other raises there.
SDK_MLPS = {"glu", "fused_mlp", "mlp"}
SDK_MIXER = {"mixer_cls", "device", *MIXER}


def architecture(source: Path, place: Path) -> dict:
    ours = convert(source, output=place / "ours").output
    return json.loads((ours / "config.json").read_text())["architecture"]


@pytest.mark.parametrize("variant", ["linear", "dynamic", "llama3", "yarn", "longrope", "proportional"])
def test_a_rope_type_stands_in_a_keyword_that_the_sdk_lacks(variant, llama, tmp_path):
    mixer = architecture(llama(variant), tmp_path)["mixer"]
    assert mixer["rope_parameters"]["rope_type"] == variant
    assert set(mixer) - SDK_MIXER == {"rope_parameters"} and "rope_scaling" not in mixer


def test_a_biased_glu_has_a_name_that_the_sdk_lacks(llama, tmp_path):
    assert architecture(llama("mlp bias"), tmp_path)["mlp"]["mlp_cls"] == BIASED_GLU
    assert BIASED_GLU not in SDK_MLPS


@pytest.mark.parametrize("variant", ["gqa", "attention bias", "theta and eps", "gelu", "partial, which LLaMA ignores"])
def test_what_the_sdk_can_say_needs_no_extension(variant, llama, tmp_path):
    found = architecture(llama(variant), tmp_path)
    assert set(found["mixer"]) <= SDK_MIXER and found["mlp"]["mlp_cls"] in SDK_MLPS
