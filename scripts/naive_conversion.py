"""The conversion as one would write it with transformers: load the model, rename and concatenate, save. For benchmarks.

Usage: naive_conversion.py SOURCE TARGET
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM


def main(source: str, target: str) -> None:
    """Writes the MixFormer tensors of a LLaMA into one file; no config, no check, no hash, no sync."""
    state = AutoModelForCausalLM.from_pretrained(source).state_dict()
    layers = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("model.layers."))
    out = {
        "layers.0.wte.weight": state["model.embed_tokens.weight"],
        f"layers.{layers + 1}.ln.weight": state["model.norm.weight"],
        f"layers.{layers + 1}.linear.weight": state["lm_head.weight"],
    }
    for i in range(layers):
        theirs, ours = f"model.layers.{i}.", f"layers.{i + 1}."
        out[ours + "ln_1.weight"] = state[theirs + "input_layernorm.weight"]
        out[ours + "ln_2.weight"] = state[theirs + "post_attention_layernorm.weight"]
        out[ours + "attn.Wqkv.weight"] = torch.cat([state[f"{theirs}self_attn.{n}_proj.weight"] for n in "qkv"])
        out[ours + "attn.out_proj.weight"] = state[theirs + "self_attn.o_proj.weight"]
        out[ours + "mlp.fc1.weight"] = torch.cat([state[f"{theirs}mlp.{n}_proj.weight"] for n in ("up", "gate")])
        out[ours + "mlp.fc2.weight"] = state[theirs + "mlp.down_proj.weight"]
    Path(target).mkdir()
    save_file(out, Path(target) / "model.safetensors", metadata={"format": "pt"})


main(*sys.argv[1:])
