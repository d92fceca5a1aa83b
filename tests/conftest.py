"""LLaMA folders as transformers saves them, hot, in every variant that converts; and flash-attn without a GPU."""

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import AutoModelForCausalLM

from golden.models.hot import make_hot

Make = Callable[[str], Path]

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 40,
    "beta_fast": 16.0,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0 + 0.05 * k for k in range(10)],
    "long_factor": [1.0 + 0.2 * k for k in range(10)],
    "original_max_position_embeddings": 80,
    "factor": 2.0,
}
PROPORTIONAL = {"rope_type": "proportional", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
PARTIAL = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}

# Name -> (config overrides, dtype, largest shard). The recipe itself is GQA with head_dim apart from n_embd / n_head.
VARIANTS: dict[str, tuple[dict[str, object], torch.dtype, str]] = {
    "gqa": ({}, torch.float32, "5GB"),
    "mha": ({"num_key_value_heads": 4}, torch.float32, "5GB"),
    "mqa": ({"num_key_value_heads": 1}, torch.float32, "5GB"),
    "head_dim from sizes": ({"head_dim": None}, torch.float32, "5GB"),
    "tied": ({"tie_word_embeddings": True}, torch.float32, "5GB"),
    "bf16": ({}, torch.bfloat16, "5GB"),
    "fp16 tied": ({"tie_word_embeddings": True}, torch.float16, "5GB"),
    "sharded": ({}, torch.float32, "40KB"),
    "theta and eps": ({"rope_theta": 500000.0, "rms_norm_eps": 1e-6}, torch.float32, "5GB"),
    "attention bias": ({"attention_bias": True}, torch.float32, "5GB"),
    "gelu": ({"hidden_act": "gelu"}, torch.float32, "5GB"),
    "mlp bias": ({"mlp_bias": True, "attention_bias": True}, torch.float32, "5GB"),
    "eos list": ({"eos_token_id": [2, 7]}, torch.float32, "5GB"),
    "linear": ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, torch.float32, "5GB"),
    "dynamic": ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, torch.float32, "5GB"),
    "llama3": ({"rope_parameters": LLAMA3}, torch.float32, "5GB"),
    "yarn": ({"rope_parameters": YARN}, torch.float32, "5GB"),
    "longrope": ({"rope_parameters": LONGROPE}, torch.float32, "5GB"),
    "proportional": ({"rope_parameters": PROPORTIONAL}, torch.float32, "5GB"),
    "partial, which LLaMA ignores": ({"rope_parameters": PARTIAL}, torch.float32, "5GB"),
    "old spelling": ({"rope_theta": 20000.0}, torch.float32, "5GB"),
}


def respell(folder: Path) -> None:
    """Writes config.json as transformers 4.30 did: top-level rope_theta, torch_dtype, no head_dim, no newer fields."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None
    config["torch_dtype"] = config.pop("dtype")
    config["_name_or_path"] = "somebody/something"
    for name in ("mlp_bias", "attention_bias", "attention_dropout"):
        config.pop(name)
    path.write_text(json.dumps(config, indent=2))


@pytest.fixture(scope="session")
def llama(tmp_path_factory) -> Make:
    """Gives the folder of a variant by name; never write into it."""
    made: dict[str, Path] = {}

    def make(variant: str = "gqa") -> Path:
        if variant not in made:
            overrides, dtype, shard = VARIANTS[variant]
            folder = make_hot("llama", tmp_path_factory.mktemp("llama") / "source", **overrides)
            if dtype is not torch.float32 or shard != "5GB":
                model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
                folder = folder.with_name("other")
                model.save_pretrained(folder, max_shard_size=shard)
            if variant == "old spelling":
                respell(folder)
            (folder / "tokenizer.json").write_text('{"model": {}}')
            (folder / "README.md").write_text("# The source\n")
            (folder / "LICENSE").write_text("Do what you like.\n")
            made[variant] = folder
        return made[variant]

    return make


@pytest.fixture(params=VARIANTS)
def every_llama(request, llama) -> Path:
    """The folder of each variant in turn."""
    return llama(request.param)


def _module(name: str, path: Path) -> ModuleType:
    """A file of the tests as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def ngpt() -> ModuleType:
    """Makers of nGPT's files, and the functions of its dialects."""
    return _module("ngpt_makers", Path(__file__).parent / "ngpt_makers.py")


@pytest.fixture(scope="session")
def standin() -> ModuleType:
    """The kernels of flash-attn written in torch."""
    path = Path(__file__).parent / "mixformer" / "flash_standin.py"
    spec = importlib.util.spec_from_file_location("flash_standin", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def flash_over_standin(standin: ModuleType) -> ModuleType:
    """The real flash_attn package over kernels in torch if it is installed without its own, else a small fake of it."""
    found = {name: importlib.util.find_spec(name) for name in ("flash_attn", "flash_attn_2_cuda")}
    if found["flash_attn"] is None or found["flash_attn_2_cuda"] is not None:
        return standin.package()
    sys.modules["flash_attn_2_cuda"] = standin.kernels()
    package = importlib.import_module("flash_attn")
    interface = sys.modules["flash_attn.flash_attn_interface"]
    for operator in (interface._flash_attn_forward, interface._flash_attn_varlen_forward):
        operator.register_kernel("cpu", operator._init_fn)
    for name in [name for name in sys.modules if name.split(".")[0] in ("flash_attn", "flash_attn_2_cuda")]:
        del sys.modules[name]  # transformers must not take it for an installation with kernels
    return package


@pytest.fixture
def flash_package(flash_over_standin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """flash_attn as `mixformer.attention` imports it, allowed on the CPU."""
    from mixformer import attention

    monkeypatch.setitem(sys.modules, "flash_attn", flash_over_standin)
    monkeypatch.setattr(attention, "FLASH_DEVICES", ("cpu",))
    return flash_over_standin
