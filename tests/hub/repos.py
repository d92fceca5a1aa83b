"""Repos that are too large to be made in full: sparse files on the server."""

import json
import struct

from loopback import Hub

from converters.checkpoint.cache_folders import sha256_of


def big_repo(hub: Hub, layers: int, *, mixed: bool = True) -> tuple[str, int]:
    """A LLaMA of 512 wide in two sparse shards; gives its repo and the bytes of its tensors.

    mixed: each layer lies in both shards; else the first layers lie in one and the last in the other.
    """
    wide, inner, words = 512, 1024, 2048
    shapes = {"model.embed_tokens.weight": (words, wide), "lm_head.weight": (words, wide), "model.norm.weight": (wide,)}
    for i in range(layers):
        block = f"model.layers.{i}."
        shapes |= {f"{block}self_attn.{k}_proj.weight": (wide, wide) for k in "qkvo"}
        shapes |= {f"{block}mlp.{k}_proj.weight": (inner, wide) for k in ("gate", "up")}
        shapes |= {f"{block}mlp.down_proj.weight": (wide, inner)}
        shapes |= {f"{block}{k}.weight": (wide,) for k in ("input_layernorm", "post_attention_layernorm")}
    keys, repo, total, weight_map = sorted(shapes), hub.store.create("hub/big"), 0, {}
    tree = repo.files()
    half = len(keys) // 2
    parts = (keys[::2], keys[1::2]) if mixed else (keys[:half], keys[half:])
    for n, part in enumerate(parts, 1):
        name = f"model-0000{n}-of-00002.safetensors"
        header, at = {}, 0
        for key in part:
            size = 4 * shapes[key][0] * (shapes[key][1] if len(shapes[key]) > 1 else 1)
            header[key] = {"dtype": "F32", "shape": list(shapes[key]), "data_offsets": [at, at + size]}
            at += size
            weight_map[key] = name
        text = json.dumps(header, separators=(",", ":")).encode()
        made = hub.incoming / name
        with made.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + at)
        hash = sha256_of(made)
        made.rename(hub.store.path(hash))
        hub.store.objects[hash] = 8 + len(text) + at
        tree[name] = hub.store.large(hash, 8 + len(text) + at)
        total += at
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": wide, "vocab_size": words,
              "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": 8, "dtype": "float32",
              "tie_word_embeddings": False, "hidden_act": "silu", "rms_norm_eps": 1e-6}  # fmt: skip
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    small = {"config.json": config, "model.safetensors.index.json": index}
    repo.commit(tree | {k: hub.store.blob(k, json.dumps(v).encode()) for k, v in small.items()}, "add")
    return "hub/big", total
