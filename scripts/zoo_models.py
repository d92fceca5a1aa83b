"""The tiny models of the built-in samples, about 200 thousand parameters each, before they are trained.

Sizes differ from each other where a family allows it (heads x head_dim is not the width, fewer key-value heads than
heads), so that exchanged axes are seen. Head sizes are multiples of 8, which flash-attn can compute.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

VOCABULARY = 259  # all bytes, and the three special tokens of the samples' tokenizer
LONG, SHORT = 256, 128  # contexts, in bytes: the slower a model learns, the shorter
TOKENS = {"vocab_size": VOCABULARY, "bos_token_id": 256, "eos_token_id": 257}


def unchanged(model: nn.Module) -> None:
    """What most models need after a step."""


@dataclass(frozen=True)
class Recipe:
    """How a model is made and trained.

    make: the model before training. save: writes config.json and model.safetensors. context: tokens of a window.
    steps: how long it is trained. decay: of AdamW. after_step: what follows each step.
    """

    make: Callable[[], nn.Module]
    save: Callable[[nn.Module, Path], None]
    context: int = SHORT
    steps: int = 550
    decay: float = 0.05
    after_step: Callable[[nn.Module], None] = unchanged


def _of_transformers(name: str, **sizes: Any) -> Recipe:
    def make() -> nn.Module:
        import transformers

        config = getattr(transformers, name)(**TOKENS, **sizes)
        model: nn.Module = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        return model

    return Recipe(make, lambda model, folder: model.save_pretrained(folder))


NVIDIA = {
    "model_type": "ngpt-nvidia",
    "use_nGPT": 1,
    "n_layer": 3,
    "n_head": 4,
    "n_embd": 64,
    "block_size": SHORT,
    "base_scale": 0.125,  # 1 / sqrt(n_embd), as the published training takes it
    "bias": False,
    "vocab_size": VOCABULARY,
    "dropout": 0.0,
    "dtype": "float32",
}
ALONG_WIDTH = {"query": 1, "key": 1, "value": 1, "c_fc": 1, "lm_head": 1, "wte": 1, "att_c_proj": 0, "mlp_c_proj": 0}


def _make_nvidia() -> nn.Module:
    """Rates start at 0.05 and other learned scales at 1 (Loshchilov et al., arXiv:2410.01131, section 2)."""
    from golden.references import ngpt_nvidia

    base = NVIDIA["base_scale"]

    def start(key: str, shape: tuple[int, ...]) -> Tensor:
        if len(shape) == 1:
            return torch.full(shape, 1.0 if key.endswith("suv") else base)
        return torch.randn(shape) * base

    weights = {key: start(key, shape) for key, shape in ngpt_nvidia.shapes(NVIDIA).items()}
    return ngpt_nvidia.built(NVIDIA, weights, torch.float32)


def _save_nvidia(model: nn.Module, folder: Path) -> None:
    """Matrices of layers in bfloat16, all else in float32, under the keys of the published code."""

    def key_of(name: str) -> str:
        short = name.replace(".attn.", ".").replace(".mlp.", ".")
        return f"transformer.{short}" if short.startswith(("wte.", "h.")) else short

    weights = {key_of(name): weight.detach() for name, weight in model.named_parameters()}
    narrow = {key: w.bfloat16() if w.ndim == 2 and ".h." in key else w for key, w in weights.items()}
    (folder / "config.json").write_text(json.dumps(NVIDIA, indent=2) + "\n")
    save_file(narrow, folder / "model.safetensors", {"format": "pt"})


@torch.no_grad()
def on_the_sphere(model: nn.Module) -> None:
    """Sets the vectors of every matrix along the width of the model to length 1, as nGPT does after each step."""
    for key, weight in model.named_parameters():
        axis = ALONG_WIDTH.get(key.split(".")[-2]) if "." in key else None
        if axis is not None:
            weight.div_(weight.norm(dim=axis, keepdim=True))


def _make_gpt2() -> nn.Module:
    """Positions start as sines, from which distances can be read; learned from noise they take far longer."""
    sizes = {"n_embd": 72, "n_layer": 3, "n_head": 3, "n_positions": SHORT, "initializer_range": 0.08}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model: Any = _of_transformers("GPT2Config", **sizes, **dropout).make()
    angles = torch.arange(SHORT)[:, None] * SHORT ** -(torch.arange(36) / 36)
    with torch.no_grad():
        model.transformer.wpe.weight.copy_(0.1 * torch.cat((angles.sin(), angles.cos()), dim=1))
    return cast(nn.Module, model)


LLAMA = _of_transformers(
    "LlamaConfig",
    hidden_size=96,
    intermediate_size=160,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=LONG,
    rms_norm_eps=1e-5,
)
CODEGEN = _of_transformers(
    "CodeGenConfig", n_embd=64, n_layer=4, n_head=4, rotary_dim=8, n_positions=SHORT, n_ctx=SHORT
)
RECIPES = {
    "llama": replace(LLAMA, context=LONG, steps=1200),
    "gpt2": Recipe(_make_gpt2, CODEGEN.save, steps=700),
    "codegen": CODEGEN,
    "ngpt-nvidia": Recipe(_make_nvidia, _save_nvidia, decay=0.0, after_step=on_the_sphere),
}
