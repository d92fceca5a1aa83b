"""Real configs: facts in files, one for each kind that was seen."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from golden.references.own_references import check_known

FOLDER = Path(__file__).parent / "configs"
FACTS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
OURS = ("mixformer-sequential", "phi-msft")
DEPTHS = ("num_hidden_layers", "n_layer")
DTYPES = {"float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2)}


def names(*, accepted: bool) -> list[str]:
    """The facts that a plan accepts, or refuses."""
    return [name for name, fact in FACTS.items() if fact["accepted"] is accepted]


def reference(config: Mapping[str, Any], folder: Path) -> torch.nn.Module:
    """transformers' model for a config.json, with weights on whatever device is the default."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    check_known(folder, config.get("model_type"))
    known = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return AutoModelForCausalLM.from_config(known, dtype=torch.float32, attn_implementation="eager")


def stored(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a file holds of a model: a tied head is not stored."""
    tied = set(model._tied_weights_keys or {}) if model.config.tie_word_embeddings else set()
    return {key: value for key, value in model.state_dict().items() if key not in tied}


@pytest.fixture
def headers(tmp_path):
    """Writes a folder whose weights are a header and a hole: shapes of two layers, at the width of the real model."""

    def make(config: Mapping[str, Any]) -> Path:
        folder = tmp_path / "theirs"
        shapes = mixformer_shapes(config) if config["model_type"] in OURS else _shapes(config, folder)
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        dtype = str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch.")
        _sparse(folder / "model.safetensors", shapes, *DTYPES.get(dtype, ("BF16", 2)))
        return folder

    return make


def _shapes(config: Mapping[str, Any], folder: Path) -> dict[str, tuple[int, ...]]:
    try:
        with torch.device("meta"):
            return {key: tuple(value.shape) for key, value in stored(reference(config, folder)).items()}
    except Exception:  # transformers cannot build it: an old rope, or a draft head
        if config.get("rope_scaling") and "auto_map" in config:
            return _shapes({**config, "rope_scaling": None}, folder)
        return {"model.embed_tokens.weight": (config["vocab_size"], config["hidden_size"])}


def _sparse(path: Path, shapes: Mapping[str, tuple[int, ...]], name: str, size: int) -> None:
    end, header = 0, dict[str, Any]()
    for key, shape in shapes.items():
        start, end = end, end + size * math.prod(shape)
        header[key] = {"dtype": name, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def mixformer_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """phi-1.5's: parallel blocks with a plain MLP, under the names of its two generations."""
    d, inner = config["n_embd"], config.get("n_inner") or 4 * config["n_embd"]
    rows = -(-config["vocab_size"] // 64) * 64
    qkv = d + 2 * (config.get("n_head_kv") or config["n_head"]) * d // config["n_head"]
    msft, depth = config["model_type"] == "phi-msft", config["n_layer"]
    found: dict[str, tuple[int, ...]] = {"transformer.embd.wte.weight" if msft else "layers.0.wte.weight": (rows, d)}
    matrices = {"mixer.Wqkv": (qkv, d), "mixer.out_proj": (d, d), "mlp.fc1": (inner, d), "mlp.fc2": (d, inner)}
    for i in range(depth):
        prefix = f"transformer.h.{i}" if msft else f"layers.{i + 1}"
        for name, shape in {**matrices, "ln": (d,)}.items():
            found |= {f"{prefix}.{name}.weight": shape, f"{prefix}.{name}.bias": shape[:1]}
    head = "lm_head" if msft else f"layers.{depth + 1}"
    for name, shape in {"ln": (d,), "linear": (rows, d)}.items():
        found |= {f"{head}.{name}.weight": shape, f"{head}.{name}.bias": shape[:1]}
    return found
