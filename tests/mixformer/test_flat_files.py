"""What the package does otherwise when its text lies in a model's folder, where it is not the installed package."""

import importlib.util
import sys
from pathlib import Path

import pytest

from converters.remote_code.exported import CLASSES, FILES, code_files
from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM
from mixformer.errors import MissingPackageError

SIZES = {"vocab_size": 64, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}


@pytest.fixture
def flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The two files as modules of a package of their own, as transformers loads them."""
    (tmp_path / "__init__.py").write_text("")
    for name, data in code_files().items():
        (tmp_path / name).write_bytes(data)
    loaded = []
    for name, path in [("flat_mixformer", "__init__.py"), *((f"flat_mixformer.{n[:-3]}", n) for n in FILES)]:
        spec = importlib.util.spec_from_file_location(name, tmp_path / path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        loaded.append(module)
    return loaded[1:]


def test_the_installed_package_drops_auto_map_and_the_folders_code_keeps_it(flat):
    told = {**SIZES, "architecture": {"mixer": {"mixer_cls": "mha"}}, "auto_map": dict(CLASSES)}
    assert not hasattr(MixFormerSequentialConfig.from_dict(told), "auto_map")
    assert flat[0].MixFormerSequentialConfig.from_dict(told).auto_map == CLASSES


def test_a_configuration_of_another_copy_of_the_class_is_taken(flat, tmp_path):
    model = MixFormerSequentialForCausalLM(MixFormerSequentialConfig(**SIZES))
    model.save_pretrained(tmp_path / "model")
    other = flat[0].MixFormerSequentialConfig.from_pretrained(tmp_path / "model")
    assert not isinstance(other, MixFormerSequentialConfig)
    again = MixFormerSequentialForCausalLM.from_pretrained(tmp_path / "model", config=other)
    assert again.config is not None and type(again.config).__module__ == flat[0].__name__


def test_keywords_are_checked_by_type_there_too(flat):
    config = flat[0].MixFormerSequentialConfig(**SIZES, architecture={"mixer": {"mixer_cls": "mha", "bias": "false"}})
    with pytest.raises(flat[0].ConfigurationError, match=r"architecture\.mixer\.bias"):
        flat[1].MixFormerSequentialForCausalLM(config)


def test_a_part_of_another_package_says_that_the_package_is_needed(flat):
    config = flat[0].MixFormerSequentialConfig(**SIZES, architecture={"mixer": {"mixer_cls": "some-package/odd"}})
    with pytest.raises(flat[0].MissingPackageError, match="`import mixformer` before"):
        flat[1].MixFormerSequentialForCausalLM(config)
    config = MixFormerSequentialConfig(**SIZES, architecture={"mixer": {"mixer_cls": "some-package/odd"}})
    with pytest.raises(MissingPackageError, match="not installed here"):
        MixFormerSequentialForCausalLM(config)
