"""Native models whose tensors were written as safetensors, under their own names, with their sizes in config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from converters.checkpoint.json_files import read_json
from converters.checkpoint.weight_files import weight_files
from golden.references import llama_files, nanogpt


def load(path: Path, dtype: torch.dtype, attn: str | None) -> Any:
    """The model of such a folder."""
    config = read_json(path / "config.json")
    weights: dict[str, Tensor] = {}
    for file in weight_files(path)[0]:
        weights |= load_file(file)
    if config["model_type"] == "nanogpt":
        return nanogpt.built(config, weights, dtype)
    if config["model_type"] == "llama2c":
        return llama_files.meta_model(config, [weights], dtype)
    later = sorted({key.partition(".")[0] for key in weights if key[:2].isdigit()})
    ranks = [{key: weight for key, weight in weights.items() if not key[:2].isdigit()}]
    ranks += [{k.partition(".")[2]: w for k, w in weights.items() if k.startswith(f"{rank}.")} for rank in later]
    return llama_files.meta_model(config, ranks, dtype)
