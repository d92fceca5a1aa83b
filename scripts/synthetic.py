"""Synthetic checkpoints for benchmarks: real key names, shapes and shard layout; the values do not matter."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converters.checkpoint.safetensors_header import build_header

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """Sizes of a bf16 LLaMA; `limit` is the largest shard in bytes of tensors."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inter: int
    vocab: int
    limit: int


@dataclass(frozen=True)
class Gpt2:
    """Sizes of a GPT-2 in one file, of `dtype` F32 or F16."""

    hidden: int
    layers: int
    heads: int
    vocab: int = 50257
    dtype: str = "F32"


GPT2_SIZES = {
    "medium": Gpt2(1024, 24, 16),  # 1.4 GB
    "xl": Gpt2(1600, 24, 25),  # 3.3 GB, half the layers of gpt2-xl
    "huge": Gpt2(12288, 1, 96, 1024, "F16"),  # 3.7 GB in one layer: the matrices of a GPT-3
}

SIZES = {
    "100MB": Size(1024, 4, 16, 4, 2816, 8000, 40_000_000),
    "1GB": Size(2048, 5, 32, 4, 11008, 32000, 300_000_000),
    "4GB": Size(2048, 22, 32, 4, 11008, 64000, 1_000_000_000),
}

# Written as headers whose data are holes.
SPARSE_SIZES = {
    "1GB": Size(2048, 5, 32, 4, 11008, 32000, 1_000_000_000),
    "8GB": Size(4096, 19, 32, 32, 11008, 32000, 4_000_000_000),
    "64GB": Size(8192, 37, 64, 8, 28672, 32000, 10_000_000_000),
    "70B": Size(8192, 80, 64, 8, 28672, 32000, 10_000_000_000),
}


def shapes(size: Size) -> list[tuple[str, Shape]]:
    """(key, shape) in the order in which Hugging Face files hold them."""
    d, kv = size.hidden, size.hidden // size.heads * size.kv_heads
    found: list[tuple[str, Shape]] = [("model.embed_tokens.weight", (size.vocab, d))]
    for i in range(size.layers):
        layer = f"model.layers.{i}."
        found += [
            (layer + "input_layernorm.weight", (d,)),
            (layer + "mlp.down_proj.weight", (d, size.inter)),
            (layer + "mlp.gate_proj.weight", (size.inter, d)),
            (layer + "mlp.up_proj.weight", (size.inter, d)),
            (layer + "post_attention_layernorm.weight", (d,)),
            (layer + "self_attn.k_proj.weight", (kv, d)),
            (layer + "self_attn.o_proj.weight", (d, d)),
            (layer + "self_attn.q_proj.weight", (d, d)),
            (layer + "self_attn.v_proj.weight", (kv, d)),
        ]
    return [*found, ("model.norm.weight", (d,)), ("lm_head.weight", (size.vocab, d))]


def gpt2_shapes(size: Gpt2) -> list[tuple[str, Shape]]:
    """(key, shape); matrices of layers as Conv1D has them, (inputs, outputs)."""
    d = size.hidden
    found: list[tuple[str, Shape]] = [
        ("transformer.wte.weight", (size.vocab, d)),
        ("transformer.wpe.weight", (1024, d)),
    ]
    for i in range(size.layers):
        layer = f"transformer.h.{i}."
        for name, (inputs, outputs) in {
            "attn.c_attn": (d, 3 * d),
            "attn.c_proj": (d, d),
            "mlp.c_fc": (d, 4 * d),
            "mlp.c_proj": (4 * d, d),
        }.items():
            found += [(f"{layer}{name}.weight", (inputs, outputs)), (f"{layer}{name}.bias", (outputs,))]
        found += [(f"{layer}{norm}.{part}", (d,)) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")]
    return [*found, ("transformer.ln_f.weight", (d,)), ("transformer.ln_f.bias", (d,))]


def write_gpt2(folder: Path, size: Gpt2) -> Path:
    """Writes a GPT-2 of random weights; one that is there already is kept."""
    if (folder / "config.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    tensors = sorted(gpt2_shapes(size))
    dtype = np.float32 if size.dtype == "F32" else np.float16
    left = sum(int(np.prod(shape)) for _, shape in tensors)
    draw = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(build_header((key, size.dtype, shape) for key, shape in tensors))
        while left:
            values = draw.random(min(left, 1 << 22), np.float32) * np.float32(0.07) - np.float32(0.035)
            file.write(values.astype(dtype).tobytes())
            left -= len(values)
    (folder / "config.json").write_text(json.dumps(_gpt2_config(size)))
    return folder


def write_llama(folder: Path, size: Size, *, sparse: bool = False) -> Path:
    """Writes the checkpoint, greedily sharded; one that is there already is kept. sparse: data are holes."""
    if (folder / "config.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[list[tuple[str, Shape]]] = [[]]
    for key, shape in shapes(size):
        used = sum(2 * int(np.prod(s)) for _, s in shards[-1])
        if shards[-1] and used + 2 * int(np.prod(shape)) > size.limit:
            shards.append([])
        shards[-1].append((key, shape))
    weight_map = {}
    for k, shard in enumerate(shards):
        name = f"model-{k + 1:05d}-of-{len(shards):05d}.safetensors"
        (_write_holes if sparse else _write_shard)(folder / name, shard, k)
        weight_map |= {key: name for key, _ in shard}
    index = {"metadata": {"total_size": sum(2 * int(np.prod(s)) for _, s in shapes(size))}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(_config(size)))
    return folder


def _write_shard(path: Path, tensors: list[tuple[str, Shape]], seed: int) -> None:
    draw = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(build_header((key, "BF16", shape) for key, shape in sorted(tensors)))
        for _, shape in sorted(tensors):
            values = draw.random(int(np.prod(shape)), np.float32) * np.float32(0.07) - np.float32(0.035)
            if len(shape) == 1:
                values += 1
            file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def _write_holes(path: Path, tensors: list[tuple[str, Shape]], seed: int) -> None:
    header = build_header((key, "BF16", shape) for key, shape in sorted(tensors))
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(2 * int(np.prod(shape)) for _, shape in tensors))


def _config(size: Size) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden,
        "intermediate_size": size.inter,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "vocab_size": size.vocab,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }


def _gpt2_config(size: Gpt2) -> dict[str, object]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": size.hidden,
        "n_layer": size.layers,
        "n_head": size.heads,
        "n_positions": 1024,
        "n_ctx": 1024,
        "vocab_size": size.vocab,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "torch_dtype": "float32" if size.dtype == "F32" else "float16",
    }
