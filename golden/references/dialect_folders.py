"""Native models whose tensors were written as safetensors, under their own names, with their sizes in config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from converters.checkpoint.json_files import read_json
from converters.checkpoint.weight_files import weight_files
from golden.references import (
    by_transformers,
    llama_files,
    nanogpt,
    ngpt_evintunador,
    ngpt_joeli,
    ngpt_lucidrains,
    ngpt_modded_nanogpt,
    ngpt_nvidia,
    ngpt_olmo,
    ngpt_tutorial,
)
from golden.references.base import Reference
from golden.references.form_names import form_of


def load(path: Path, dtype: torch.dtype, attn: str | None) -> Any:
    """The model of such a folder."""
    config = read_json(path / "config.json")
    weights: dict[str, Tensor] = {}
    for file in weight_files(path)[0]:
        weights |= load_file(file)
    form = "llama-torchtune" if by_transformers.is_torchtune(weights) else form_of(config)
    model = BUILDERS[form](config, weights, dtype)
    if attn is not None and not isinstance(model, Reference):
        model.set_attn_implementation(attn)
    return model


def _of_ranks(config: Mapping[str, Any], weights: Mapping[str, Tensor], dtype: torch.dtype) -> Any:
    """Meta's, whose ranks after the first begin their keys with a number."""
    later = sorted({key.partition(".")[0] for key in weights if key[:2].isdigit()})
    ranks = [{key: weight for key, weight in weights.items() if not key[:2].isdigit()}]
    ranks += [{k.partition(".")[2]: w for k, w in weights.items() if k.startswith(f"{rank}.")} for rank in later]
    return llama_files.meta_model(config, ranks, dtype)


Builder = Callable[[Mapping[str, Any], Mapping[str, Tensor], torch.dtype], Any]
BUILDERS: Mapping[str, Builder] = {
    "llama2c": lambda config, weights, dtype: llama_files.meta_model(config, [weights], dtype),
    "llama-meta": _of_ranks,
    "llama-litgpt": by_transformers.litgpt,
    **dict.fromkeys(("llama-torchtune", "mistral-torchtune", "qwen2-torchtune"), by_transformers.torchtune),
    "nanogpt": nanogpt.built,
    "ngpt-evintunador": ngpt_evintunador.built,
    "ngpt-joeli": ngpt_joeli.built,
    "ngpt-lucidrains": ngpt_lucidrains.built,
    "ngpt-modded-nanogpt": ngpt_modded_nanogpt.built,
    "ngpt-nvidia": ngpt_nvidia.built,
    "ngpt-olmo": ngpt_olmo.built,
    "ngpt-tutorial": lambda config, weights, dtype: ngpt_tutorial.built(config["n_head"], weights, dtype),
}
"""Name of a form -> the model of a config and of weights under the names that the form has."""
