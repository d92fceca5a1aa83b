"""Trained LLaMAs as MixFormers, against llama.cpp, which shares no code with transformers, torch or this project.

llama.cpp reads a GGUF with float32 weights, keeps keys and values in float32 too, and computes in float32; MixFormer
runs in float64. Over a text of 128 random tokens they differ by (rms and max of the difference, over the deviation of
the logits; measured with cyllama 0.2.18 on CPU):

    stories260K            1.6e-7   1.8e-6
    SmolLM2-135M-Instruct  1.8e-6   1.3e-5
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from converters import convert
from golden.models.loading import load_model

cyllama = pytest.importorskip("cyllama.llama.llama_cpp", reason="cyllama (llama.cpp) is not installed: extra [oracle]")
gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]

RMS, MOST, WRONG = 1e-5, 1e-4, 0.1  # budgets, of the deviation of the logits; and what a wrong order exceeds at least
TOKENS, FLOAT32 = 128, 0
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def in_pairs(weight: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys as llama.cpp turns them: the two of a pair beside each other."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def as_they_are(weight: Tensor, heads: int) -> Tensor:
    """The control: the order of the Hugging Face folder."""
    return weight


def write_gguf(source: Path, path: Path, order: Callable[[Tensor, int], Tensor]) -> None:
    """A float32 GGUF of a LLaMA folder with a tied head, without a tokenizer; by the formulas of the format alone."""
    config, weights = json.loads((source / "config.json").read_text()), load_file(source / "model.safetensors")
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    writer = gguf.GGUFWriter(path, "llama")
    add_sizes(writer, config)
    found = {"token_embd": weights["model.embed_tokens.weight"], "output_norm": weights["model.norm.weight"]}
    for i in range(config["num_hidden_layers"]):
        for name, theirs in LAYER.items():
            weight = weights[f"model.layers.{i}.{theirs}.weight"]
            found[f"blk.{i}.{name}"] = order(weight, heads[name]) if name in heads else weight
    for name, weight in found.items():
        writer.add_tensor(f"{name}.weight", weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_sizes(writer: Any, config: dict[str, Any]) -> None:
    """What llama.cpp asks of a LLaMA's config."""
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def logits_of_llama_cpp(path: Path, ids: list[int], vocabulary: int) -> Tensor:
    """Logits (tokens, vocabulary), float64 numbers that were float32."""

    class Model(cyllama.LlamaModel):
        n_vocab = vocabulary  # the wrapper asks for it and does not have it

    sizes = cyllama.LlamaModelParams()
    sizes.n_gpu_layers = 0
    terms = cyllama.LlamaContextParams()
    terms.n_ctx = terms.n_batch = terms.n_ubatch = TOKENS
    terms.n_threads = terms.n_threads_batch = 1
    terms.type_k = terms.type_v = FLOAT32
    terms.flash_attn_type = 0
    context = cyllama.LlamaContext(Model(str(path), sizes, False), terms)
    batch = cyllama.LlamaBatch(n_tokens=TOKENS, embd=0, n_seq_max=1)
    for position, token in enumerate(ids):
        batch.add(token, position, [0], True)
    assert context.decode(batch) == 0
    return torch.tensor([context.get_logits_ith(i) for i in range(len(ids))], dtype=torch.float64)


@pytest.mark.parametrize("name", ["stories260k", "smollm2"])
def test_mixformer_and_llama_cpp_compute_the_same(name, request, tmp_path):
    source = request.getfixturevalue(name)
    model = load_model(convert(source, "llama", output=tmp_path / "ours").output, torch.float64, "eager").model
    vocabulary = model.config.vocab_size
    ids = torch.randint(3, vocabulary, (TOKENS,), generator=torch.Generator().manual_seed(0)).tolist()
    with torch.no_grad():
        ours = model(torch.tensor([ids])).logits[0, :, :vocabulary]

    def difference(order):
        write_gguf(source, tmp_path / "model.gguf", order)
        return (logits_of_llama_cpp(tmp_path / "model.gguf", ids, vocabulary) - ours) / ours.std()

    found = difference(in_pairs)
    print(f"\n{name}: rms {found.square().mean().sqrt():.2g}, max {found.abs().max():.2g}")
    assert found.square().mean().sqrt() <= RMS and found.abs().max() <= MOST
    assert difference(as_they_are).abs().max() > WRONG  # queries and keys in another order are seen
