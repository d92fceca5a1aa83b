"""Hot models in their native forms, written by code that knows nothing of converters."""

import importlib.util
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from golden import compare, verdict_lines
from golden.models.hot import make_hot

LAYERS, VOCAB = 3, 332
SIZES = {"hidden_size": 48, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 6, "vocab_size": VOCAB}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

NAMES = {
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
}
GGUF_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_up": "mlp.up_proj",
}
GPT2_NAMES = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}


def interleaved(rows: Tensor, heads: int) -> Tensor:
    """Rows of heads in halves, put so that the pairs of a rotation are neighbours."""
    return rows.view(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape).contiguous()


def named_by_meta(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config of a LLaMA folder, and its weights under Meta's names in Meta's order of rows."""
    config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    found = {"tok_embeddings.weight": weights["model.embed_tokens.weight"], "norm.weight": weights["model.norm.weight"]}
    for i in range(config["num_hidden_layers"]):
        for meta, name in NAMES.items():
            rows = weights[f"model.layers.{i}.{name}.weight"]
            heads = {"wq": config["num_attention_heads"], "wk": config["num_key_value_heads"]}.get(meta[-2:])
            found[f"layers.{i}.{meta}.weight"] = interleaved(rows, heads) if heads else rows
    if "lm_head.weight" in weights:
        found["output.weight"] = weights["lm_head.weight"]
    return config, found


def write_meta(source: Path, folder: Path, ranks: int = 1, by_rows: bool = False, **params: Any) -> Path:
    """params.json and shards for that many ranks; `by_rows`: the embedding is cut as in LLaMA 3."""
    config, weights = named_by_meta(source)
    folder.mkdir(parents=True)
    content = {
        "dim": config["hidden_size"],
        "n_layers": config["num_hidden_layers"],
        "n_heads": config["num_attention_heads"],
        "n_kv_heads": config["num_key_value_heads"],
        "vocab_size": -1,
        "multiple_of": config["intermediate_size"],
        "ffn_dim_multiplier": 0.5,
        "norm_eps": config["rms_norm_eps"],
        **params,
    }
    (folder / "params.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    for rank in range(ranks):
        shard = {key: part_of(key, weight, rank, ranks, by_rows) for key, weight in weights.items()}
        torch.save(shard, folder / f"consolidated.{rank:02d}.pth")
    return folder


def part_of(key: str, weight: Tensor, rank: int, ranks: int, by_rows: bool) -> Tensor:
    """What a rank holds of a tensor."""
    if "norm" in key:
        return weight
    columns = ("wo", "w2") if by_rows else ("wo", "w2", "tok_embeddings")
    return weight.chunk(ranks, dim=1 if any(name in key for name in columns) else 0)[rank].contiguous().clone()


def write_llama2c(source: Path, path: Path, version: int = 0, positions: int = 160) -> Path:
    """A .bin of version 0 or 1, as export.py writes it."""
    config, weights = named_by_meta(source)
    tied = "output.weight" not in weights
    dim, heads = config["hidden_size"], config["num_attention_heads"]
    vocab = config["vocab_size"] if tied or version else -config["vocab_size"]
    sizes = (dim, config["intermediate_size"], config["num_hidden_layers"], heads, config["num_key_value_heads"])
    head = struct.pack("<7i", *sizes, vocab, positions)
    if version:
        head = (struct.pack("<Ii", 0x616B3432, version) + head + bytes([tied])).ljust(256, b"\0")
    body = b"".join(t.numpy().astype("<f4").tobytes() for t in in_file_order(weights, version, dim // heads, positions))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + body)
    return path


def in_file_order(weights: Mapping[str, Tensor], version: int, head_dim: int, positions: int) -> list[Tensor]:
    """All tensors of a .bin."""

    def layers(*kinds: str) -> list[Tensor]:
        count = len({key.split(".")[1] for key in weights if key.startswith("layers.")})
        return [weights[f"layers.{i}.{kind}.weight"] for kind in kinds for i in range(count)]

    attention = layers(*(f"attention.w{name}" for name in "qkvo"))
    feed_forward = layers(*(f"feed_forward.w{name}" for name in "123"))
    norms, ffn_norms = layers("attention_norm"), layers("ffn_norm")
    embedding, last = weights["tok_embeddings.weight"], weights["norm.weight"]
    head = [weights["output.weight"]] if "output.weight" in weights else []
    if version:
        return [*norms, *ffn_norms, last, embedding, *attention, *feed_forward, *head]
    frequencies = 1.0 / (10000.0 ** (torch.arange(0, head_dim, 2)[: head_dim // 2].float() / head_dim))
    angles = torch.outer(torch.arange(positions), frequencies).float()
    return [embedding, *norms, *attention, *ffn_norms, *feed_forward, last, angles.cos(), angles.sin(), *head]


def write_gguf(source: Path, path: Path, edit: Callable[[Any], None] = lambda writer: None, kind: str = "F32") -> Path:
    """A GGUF of a LLaMA or GPT-2 folder; `kind`: of its matrices. `edit` may add entries."""
    config, weights = json.loads((source / "config.json").read_text()), load_file(source / "model.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, config["model_type"])
    tensors = (_llama_gguf if config["model_type"] == "llama" else _gpt2_gguf)(writer, config, weights)
    writer.add_token_list([f"token {i}" for i in range(config["vocab_size"])])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    edit(writer)
    for key, tensor in tensors.items():
        data = tensor.float().numpy()
        wanted = gguf.GGMLQuantizationType[kind if data.ndim == 2 and "position" not in key else "F32"]
        writer.add_tensor(key, gguf.quants.quantize(data, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _llama_gguf(writer: Any, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    found = {
        "token_embd.weight": weights["model.embed_tokens.weight"],
        "output_norm.weight": weights["model.norm.weight"],
    }
    for i in range(config["num_hidden_layers"]):
        for name, theirs in GGUF_NAMES.items():
            for end in ("weight", "bias"):
                rows = weights.get(f"model.layers.{i}.{theirs}.{end}")
                if rows is not None:
                    count = {"attn_q": heads, "attn_k": kv}.get(name)
                    found[f"blk.{i}.{name}.{end}"] = interleaved(rows, count) if count else rows
    return found | ({"output.weight": weights["lm_head.weight"]} if "lm_head.weight" in weights else {})


def _gpt2_gguf(writer: Any, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(config["n_inner"] or 4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    found = {
        f"{ours}_embd.weight": weights[f"transformer.{w}.weight"] for ours, w in (("token", "wte"), ("position", "wpe"))
    }
    for end in ("weight", "bias"):
        found[f"output_norm.{end}"] = weights[f"transformer.ln_f.{end}"]
        for i in range(config["n_layer"]):
            for name, theirs in GPT2_NAMES.items():
                tensor = weights[f"transformer.h.{i}.{theirs}.{end}"]
                found[f"blk.{i}.{name}.{end}"] = tensor.T.contiguous() if tensor.ndim == 2 else tensor
    return found | ({"output.weight": weights["lm_head.weight"]} if "lm_head.weight" in weights else {})


def write_nanogpt(
    path: Path, bias: bool = False, prefix: str = "", mask: bool = False, seed: int = 0, **extra: Any
) -> Path:
    """A hot ckpt.pt, with the content that train.py saves."""
    args = {
        "n_layer": LAYERS,
        "n_head": 4,
        "n_embd": 40,
        "block_size": 100,
        "bias": bias,
        "vocab_size": 331,
        "dropout": 0.1,
    }
    weights = nanogpt_weights(args, seed)
    if mask:
        triangle = torch.tril(torch.ones(100, 100)).view(1, 1, 100, 100)
        weights |= {f"transformer.h.{i}.attn.bias": triangle for i in range(LAYERS)}
    state = {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}}
    content = {
        "model": {prefix + key: weight for key, weight in weights.items()},
        "optimizer": {"state": state, "param_groups": [{"lr": 6e-4, "betas": (0.9, 0.95), "params": [0]}]},
        "model_args": args,
        "iter_num": 2000,
        "best_val_loss": torch.tensor(1.47),
        "config": {"dataset": "shakespeare_char", "learning_rate": 1e-3, "compile": True},
        **extra,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def nanogpt_weights(args: Mapping[str, Any], seed: int) -> dict[str, Tensor]:
    """Norms around 1, biases of 0.2, queries and keys with some gain."""
    generator, width = torch.Generator().manual_seed(seed), args["n_embd"]

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    found = {"transformer.wte.weight": noise(args["vocab_size"], width), "transformer.wpe.weight": noise(100, width)}
    norms = ["transformer.ln_f"]
    for i in range(args["n_layer"]):
        layer = f"transformer.h.{i}."
        norms += [layer + "ln_1", layer + "ln_2"]
        for name, rows, columns in (
            ("attn.c_attn", 3 * width, width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", 4 * width, width),
            ("mlp.c_proj", width, 4 * width),
        ):
            found[f"{layer}{name}.weight"] = noise(rows, columns) * 1.5 / columns**0.5
            found |= {f"{layer}{name}.bias": 0.2 * noise(rows)} if args["bias"] else {}
    for name in norms:
        found[f"{name}.weight"] = 1 + 0.2 * noise(width)
        found |= {f"{name}.bias": 0.2 * noise(width)} if args["bias"] else {}
    return found | {"lm_head.weight": found["transformer.wte.weight"]}


@pytest.fixture(scope="session")
def hot_llama(tmp_path_factory) -> Callable[..., Path]:
    """Gives a hot LLaMA folder with overrides of its config; never write into it."""
    made: dict[str, Path] = {}

    def make(**overrides: Any) -> Path:
        name = json.dumps(overrides, sort_keys=True)
        if name not in made:
            made[name] = make_hot("llama", tmp_path_factory.mktemp("llama") / "hot", **(SIZES | overrides))
        return made[name]

    return make


@pytest.fixture(scope="session")
def hot_gpt2(tmp_path_factory) -> Callable[..., Path]:
    """Gives a hot GPT-2 folder with overrides of its config; never write into it."""
    return lambda **overrides: make_hot("gpt2", tmp_path_factory.mktemp("gpt2") / "hot", **overrides)


@pytest.fixture(scope="session")
def writers() -> dict[str, Callable[..., Path]]:
    """The writers of native forms, by name."""
    return {"meta": write_meta, "llama2c": write_llama2c, "gguf": write_gguf, "nanogpt": write_nanogpt}


def same_tensors(one: Path, other: Path) -> bool:
    """Whether two folders hold the same tensors bit for bit."""
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    same = (
        np.array_equal(first[key].view(torch.uint8).numpy(), second[key].view(torch.uint8).numpy()) for key in first
    )
    return first.keys() == second.keys() and all(same)


@pytest.fixture(scope="session")
def equal_tensors() -> Callable[[Path, Path], bool]:
    """Compares the tensors of two folders bit for bit."""
    return same_tensors


@pytest.fixture(scope="session")
def llama_cpp() -> Any:
    """The functions of llama_cpp.py; skips where cyllama is not installed."""
    spec = importlib.util.spec_from_file_location("llama_cpp", Path(__file__).with_name("llama_cpp.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pytest.importorskip("cyllama", reason=module.REASON)
    return module


@pytest.fixture
def judged() -> Callable[..., None]:
    """Asserts PASS of a candidate against its source, and L2 within 1e-10."""

    def judge(ours: Path, source: Path, levels: tuple[str, ...] = ("L0", "L1", "L2")) -> None:
        verdict = compare(ours, source, levels=levels)
        assert verdict.verdict == "PASS", "\n".join(verdict_lines(verdict))
        number = verdict.level("L2").number
        assert number is not None and number <= 1e-10

    return judge
