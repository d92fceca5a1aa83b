"""Models that transformers runs, from weights under its own names or under those of torchtune or litgpt.

Names and rows are put back as the converters of these programs do it: torchtune's `tune_to_hf` and
`qwen2_tune_to_hf` (0.6.1), litgpt's `copy_weights_llama` (0.5.13).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golden.errors import FolderError
from golden.references.base import unwrapped

TUNED = re.compile(r"layers\.\d+\.sa_norm\.scale")
TUNE_NAMES = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.scale": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "sa_norm.scale": "input_layernorm.weight",
    "mlp_norm.scale": "post_attention_layernorm.weight",
    "attn.output_proj": "self_attn.o_proj",
    "attn.": "self_attn.",
    "mlp.w1": "mlp.gate_proj",
    "mlp.w2": "mlp.down_proj",
    "mlp.w3": "mlp.up_proj",
}


def of_config(
    config: Any, path: Path | str, stored: Mapping[str, Tensor], dtype: torch.dtype, attn: str | None = None
) -> Any:
    """The causal model of a config object, in eval mode, with weights by the keys of its own state dict.

    path: what messages call it.

    Raises:
        FolderError: the keys are not those of that model.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    weights = unwrapped(stored)
    weights = from_torchtune(config, weights) if is_torchtune(weights) else weights
    options: dict[str, Any] = {} if attn is None else {"attn_implementation": attn}
    model, info = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
        None, config=config, state_dict=weights, dtype=dtype, output_loading_info=True, **options
    )
    if wrong := sorted({*info["missing_keys"], *info["unexpected_keys"]}):
        raise FolderError(f"{path}: its keys are not those of the model in its config: {', '.join(wrong[:5])}")
    return model.eval()


def is_torchtune(weights: Mapping[str, Any]) -> bool:
    """Whether tensors have torchtune's names."""
    return any(TUNED.search(key) for key in weights)


def torchtune(config: Mapping[str, Any], weights: Mapping[str, Tensor], dtype: torch.dtype) -> Any:
    """The model of a config.json of transformers, whose model_type may be that of the dialect."""
    from transformers import CONFIG_MAPPING

    kind = str(config["model_type"]).removesuffix("-torchtune")
    said = {name: value for name, value in config.items() if name != "model_type"}
    return of_config(CONFIG_MAPPING[kind].from_dict(said), kind, weights, dtype)


def from_torchtune(config: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of transformers; rows of q and k leave neighbouring pairs for halves, but in Qwen2."""
    counts = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    found = {}
    for key, weight in weights.items():
        heads = next((count for name, count in counts.items() if f".attn.{name}." in key), None)
        if heads and config.model_type != "qwen2":
            weight = weight.reshape(heads, -1, 2, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)
        found[_of_transformers(key)] = weight
    return found


def _of_transformers(key: str) -> str:
    """A key of torchtune's as transformers has it."""
    found = re.match(r"layers\.\d+\.", key)
    layer = found[0] if found else ""
    name = key.removeprefix(layer)
    start = next((tune for tune in TUNE_NAMES if name.startswith(tune)), "")
    renamed = TUNE_NAMES.get(start, "") + name.removeprefix(start)
    return f"model.{layer}{renamed}" if layer else renamed
