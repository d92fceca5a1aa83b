"""Native models whose tensors were written as safetensors, under their own names, with their sizes in config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from golden.errors import FolderError
from golden.references import llama_files, nanogpt

MODEL_TYPES = ("llama2c", "llama-meta", "nanogpt")


def is_dialect_folder(path: Path) -> bool:
    """Whether a folder's config.json names one of these forms."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") in MODEL_TYPES


def load(path: Path, dtype: torch.dtype, attn: str | None) -> Any:
    """The model of such a folder."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    weights: dict[str, Tensor] = {}
    for file in sorted(path.glob("*.safetensors")):
        weights |= load_file(file)
    if not weights:
        raise FolderError(f"{path}: there are no safetensors in it")
    if config["model_type"] == "nanogpt":
        return nanogpt.built(config, weights, dtype)
    if config["model_type"] == "llama2c":
        return llama_files.meta_model(config, [weights], dtype)
    later = sorted({key.partition(".")[0] for key in weights if key[:2].isdigit()})
    ranks = [{key: weight for key, weight in weights.items() if not key[:2].isdigit()}]
    ranks += [{k.partition(".")[2]: w for k, w in weights.items() if k.startswith(f"{rank}.")} for rank in later]
    return llama_files.meta_model(config, ranks, dtype)
