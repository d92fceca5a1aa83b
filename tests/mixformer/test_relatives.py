"""Models of other families, mapped by hand, are the same function: each shows one option of the architecture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    CodeGenConfig,
    CodeGenForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mixformer import MixFormerSequentialConfig, MixFormerSequentialForCausalLM

L, V, D, F = 2, 61, 32, 48
Weights = dict[str, Tensor]
Case = tuple[Any, dict[str, Any], Callable[[Weights], Weights]]

SIZES = {"vocab_size": V, "n_embd": D, "n_layer": L, "n_head": 4, "n_positions": 32, "pad_vocab_size_multiple": 1}
NO_BIAS = {"head_cls": "causal_lm", "use_bias": False}


def gpt2_weights(theirs: Weights) -> Weights:
    ours = {
        "layers.0.wte.weight": theirs["transformer.wte.weight"],
        "layers.0.wpe.weight": theirs["transformer.wpe.weight"],
    }
    names = {"attn.Wqkv": "attn.c_attn", "attn.out_proj": "attn.c_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for i in range(L):
        source, target = f"transformer.h.{i}.", f"layers.{i + 1}."
        for kind in ("weight", "bias"):
            for our, their in names.items():
                ours[f"{target}{our}.{kind}"] = theirs[f"{source}{their}.{kind}"].t().contiguous()
            for n in (1, 2):
                ours[f"{target}ln_{n}.{kind}"] = theirs[f"{source}ln_{n}.{kind}"]
    for kind in ("weight", "bias"):
        ours[f"layers.{L + 1}.ln.{kind}"] = theirs[f"transformer.ln_f.{kind}"]
    return ours | {f"layers.{L + 1}.linear.weight": theirs["lm_head.weight"]}


def codegen_weights(theirs: Weights) -> Weights:
    """Wqkv comes as 4 shards of (q, v, k); rotation pairs neighbours, so rotating rows go to evens, then odds."""
    heads, size, rotary = 4, D // 4, 4
    order = [*range(0, rotary, 2), *range(1, rotary, 2), *range(rotary, size)]
    ours = {"layers.0.wte.weight": theirs["transformer.wte.weight"]}
    for i in range(L):
        source, target = f"transformer.h.{i}.", f"layers.{i + 1}."
        q, v, k = theirs[f"{source}attn.qkv_proj.weight"].view(4, 3, heads // 4, size, D).unbind(1)
        q, k = q.reshape(heads, size, D)[:, order], k.reshape(heads, size, D)[:, order]
        ours[f"{target}mixer.Wqkv.weight"] = torch.cat([x.reshape(-1, D) for x in (q, k, v)])
        ours[f"{target}mixer.out_proj.weight"] = theirs[f"{source}attn.out_proj.weight"]
        for kind in ("weight", "bias"):
            ours[f"{target}ln.{kind}"] = theirs[f"{source}ln_1.{kind}"]
            ours[f"{target}mlp.fc1.{kind}"] = theirs[f"{source}mlp.fc_in.{kind}"]
            ours[f"{target}mlp.fc2.{kind}"] = theirs[f"{source}mlp.fc_out.{kind}"]
    for kind in ("weight", "bias"):
        ours[f"layers.{L + 1}.ln.{kind}"] = theirs[f"transformer.ln_f.{kind}"]
        ours[f"layers.{L + 1}.linear.{kind}"] = theirs[f"lm_head.{kind}"]
    return ours


def llama_like_weights(theirs: Weights) -> Weights:
    ours = {"layers.0.wte.weight": theirs["model.embed_tokens.weight"]}
    for i in range(L):
        source, target = f"model.layers.{i}.", f"layers.{i + 1}."
        ours[f"{target}ln_1.weight"] = theirs[f"{source}input_layernorm.weight"]
        ours[f"{target}ln_2.weight"] = theirs[f"{source}post_attention_layernorm.weight"]
        if f"{source}self_attn.qkv_proj.weight" in theirs:  # Phi-3 keeps the gate first
            ours[f"{target}attn.Wqkv.weight"] = theirs[f"{source}self_attn.qkv_proj.weight"]
            gate, up = theirs[f"{source}mlp.gate_up_proj.weight"].chunk(2)
        else:
            parts = [theirs[f"{source}self_attn.{x}_proj.weight"] for x in "qkv"]
            ours[f"{target}attn.Wqkv.weight"] = torch.cat(parts)
            gate, up = theirs[f"{source}mlp.gate_proj.weight"], theirs[f"{source}mlp.up_proj.weight"]
        ours[f"{target}mlp.fc1.weight"] = torch.cat([up, gate])
        ours[f"{target}mlp.fc2.weight"] = theirs[f"{source}mlp.down_proj.weight"]
        ours[f"{target}attn.out_proj.weight"] = theirs[f"{source}self_attn.o_proj.weight"]
        for x in "qk":
            if f"{source}self_attn.{x}_norm.weight" in theirs:
                ours[f"{target}attn.{x}_norm.weight"] = theirs[f"{source}self_attn.{x}_norm.weight"]
    ours[f"layers.{L + 1}.ln.weight"] = theirs["model.norm.weight"]
    return ours | {f"layers.{L + 1}.linear.weight": theirs["lm_head.weight"]}


def llama_like(mixer: dict[str, Any]) -> dict[str, Any]:
    return {
        "block_cls": "sequential",
        "norm": {"norm_cls": "rms", "eps": 1e-6},
        "mixer": {"mixer_cls": "mha", "bias": False, "n_head_kv": 2, **mixer},
        "mlp": {"mlp_cls": "glu", "act_fn": "silu", "n_inner": F},
        "head": NO_BIAS,
    }


LLAMA_LIKE = {
    "vocab_size": V, "hidden_size": D, "intermediate_size": F, "num_hidden_layers": L, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 32, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
    "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip


def gpt2(**kwargs: Any) -> Case:
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_embd=D, n_layer=L, n_head=4, n_positions=32, **kwargs))
    mixer = {"mixer_cls": "mha", "rotary_dim": 0}
    if kwargs.get("scale_attn_by_inverse_layer_idx"):
        mixer["scale_attn_by_inverse_layer_idx"] = True
    if kwargs.get("scale_attn_weights") is False:
        mixer["softmax_scale"] = 1.0
    architecture = {"block_cls": "sequential", "mixer": mixer, "mlp": {"mlp_cls": "mlp"}, "head": NO_BIAS}
    ours = {"embd_layer": "positional", "tie_word_embeddings": kwargs.get("tie_word_embeddings", True)}
    return theirs, {**ours, "architecture": architecture}, gpt2_weights


def codegen() -> Case:
    sizes = {"vocab_size": V, "n_embd": D, "n_layer": L, "n_head": 4, "n_positions": 32, "rotary_dim": 4}
    mixer = {"mixer_cls": "mha", "bias": False, "rotary_dim": 4}
    architecture = {"block_cls": "parallel", "mixer": mixer, "mlp": {"mlp_cls": "mlp"}}
    return CodeGenForCausalLM(CodeGenConfig(**sizes)), {"architecture": architecture}, codegen_weights


def mistral() -> Case:
    theirs = MistralForCausalLM(MistralConfig(**LLAMA_LIKE, sliding_window=5))
    return theirs, {"architecture": llama_like({"window_size": "(4, 0)"})}, llama_like_weights


def qwen3() -> Case:
    theirs = Qwen3ForCausalLM(Qwen3Config(**LLAMA_LIKE, head_dim=12))
    return theirs, {"architecture": llama_like({"head_dim": 12, "rotary_dim": 12, "qk_norm": True})}, llama_like_weights


def phi3() -> Case:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    theirs = Phi3ForCausalLM(Phi3Config(**LLAMA_LIKE, rope_parameters=rope))
    return theirs, {"architecture": llama_like({"rotary_dim": 4})}, llama_like_weights


RELATIVES: dict[str, Callable[[], Case]] = {
    "gpt2": gpt2,
    "gpt2 untied": lambda: gpt2(tie_word_embeddings=False),
    "gpt2 scaled by layer": lambda: gpt2(scale_attn_by_inverse_layer_idx=True),
    "gpt2 unscaled": lambda: gpt2(scale_attn_weights=False),
    "codegen": codegen,
    "mistral with a window": mistral,
    "qwen3 with normalised heads": qwen3,
    "phi3 with partial rotary": phi3,
}


@pytest.mark.parametrize("name", RELATIVES)
def test_a_relative_is_the_same_function_in_float64(
    name: str, heat: Any, float64_logits: Any, relative_rms: Any
) -> None:
    theirs, kwargs, mapped = RELATIVES[name]()
    theirs = heat(theirs)
    ours = MixFormerSequentialForCausalLM(MixFormerSequentialConfig(**SIZES, **kwargs)).eval()
    ours.load_state_dict(mapped(theirs.state_dict()), strict=True)
    ids = torch.randint(0, V, (2, 20))
    if name == "codegen":  # its sines are a float32 table inside the attention: float32 is the finest it has
        assert relative_rms(ours(ids).logits, theirs(ids).logits) <= 1e-5
    else:
        assert relative_rms(ours.double()(ids).logits, float64_logits(theirs, ids)) <= 1e-10
