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


LIT_NAMES = {
    "norm_1": "input_layernorm",
    "norm_2": "post_attention_layernorm",
    "attn.proj": "self_attn.o_proj",
    "mlp.fc_1": "mlp.gate_proj",
    "mlp.fc_2": "mlp.up_proj",
    "mlp.proj": "mlp.down_proj",
}
LIT_ENDS = {"transformer.wte": "model.embed_tokens", "transformer.ln_f": "model.norm", "lm_head": "lm_head"}


def load_litgpt(path: Path, dtype: torch.dtype, attn: str | None) -> Any:
    """The model of a lit_model.pth, with the sizes in model_config.yaml beside it."""
    import yaml

    said = yaml.safe_load((path.parent / "model_config.yaml").read_text(encoding="utf-8"))
    stored = torch.load(path, map_location="cpu", weights_only=True)
    return litgpt(said, stored.get("model", stored), dtype, attn)


def litgpt(said: Mapping[str, Any], stored: Mapping[str, Tensor], dtype: torch.dtype, attn: str | None = None) -> Any:
    """The LLaMA of transformers, or the Qwen2 where q, k and v have biases, that a model of litgpt is."""
    from transformers import LlamaConfig, Qwen2Config

    heads, groups = said["n_head"], said.get("n_query_groups") or said["n_head"]
    head = said.get("head_size") or said["n_embd"] // heads
    weights = unwrapped(stored)
    config = (Qwen2Config if said.get("attn_bias") else LlamaConfig)(
        vocab_size=len(weights["transformer.wte.weight"]),
        hidden_size=said["n_embd"],
        intermediate_size=said["intermediate_size"],
        num_hidden_layers=said["n_layer"],
        num_attention_heads=heads,
        num_key_value_heads=groups,
        head_dim=head,
        max_position_embeddings=said.get("block_size", 4096),
        rms_norm_eps=said.get("norm_eps", 1e-5),
        rope_parameters=_lit_rope(said),
        tie_word_embeddings=False,
    )
    return of_config(config, "litgpt", _from_litgpt(weights, heads, groups, head), dtype, attn)


def _lit_rope(said: Mapping[str, Any]) -> dict[str, Any]:
    theta, ratio = said.get("rope_base", 10000), said.get("rope_condense_ratio", 1)
    adjusted = dict(said.get("rope_adjustments") or ({"factor": ratio} if ratio != 1 else {}))
    if "original_max_seq_len" in adjusted:
        adjusted["original_max_position_embeddings"] = adjusted.pop("original_max_seq_len")
    kind = "llama3" if "low_freq_factor" in adjusted else "linear" if adjusted else "default"
    return {"rope_type": kind, "rope_theta": float(theta), **adjusted}


def _from_litgpt(weights: Mapping[str, Tensor], heads: int, groups: int, head: int) -> dict[str, Tensor]:
    """Weights under the names of transformers; q, k and v are cut out of their one matrix."""
    found: dict[str, Tensor] = {}
    for key, weight in weights.items():
        start, _, end = key.rpartition(".")
        if start in LIT_ENDS:
            found[f"{LIT_ENDS[start]}.{end}"] = weight
            continue
        _, _, layer, name = start.split(".", 3)
        if name in LIT_NAMES:
            found[f"model.layers.{layer}.{LIT_NAMES[name]}.{end}"] = weight
            continue
        parts = _cut(weight, heads, groups, head, by_group=name == "attn.attn")
        found |= {f"model.layers.{layer}.self_attn.{n}_proj.{end}": p for n, p in zip("qkv", parts, strict=True)}
    return found


def _cut(weight: Tensor, heads: int, groups: int, head: int, *, by_group: bool) -> list[Tensor]:
    """q, k and v; `by_group`: the rows are those of one group after the other, its queries, its key, its value."""
    if not by_group:
        first, second = heads * head, (heads + groups) * head
        return [part.contiguous() for part in (weight[:first], weight[first:second], weight[second:])]
    each = weight.view(groups, heads // groups + 2, head, *weight.shape[1:])
    parts = each[:, :-2], each[:, -2], each[:, -1]
    return [part.reshape(-1, *weight.shape[1:]) for part in parts]
