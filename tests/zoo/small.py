"""A real config with small sizes: the same fields, the same proportions, and all that says what is computed."""

from collections.abc import Mapping
from typing import Any

VOCAB, LAYERS, CONTEXT = 192, 2, 32
POSITIONS = (
    "max_position_embeddings n_positions n_ctx original_max_position_embeddings sliding_window seq_length"
    " max_sequence_length model_max_length context_window_size sliding_window_size"
).split()
IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "eos_token_ids")
WIDTH, HEADS, KV = ("hidden_size", "n_embd"), ("num_attention_heads", "n_head"), ("num_key_value_heads", "n_head_kv")
INNER, DEPTH = ("intermediate_size", "n_inner"), ("num_hidden_layers", "n_layer")


def small(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with two layers of a few narrow heads; a window that nobody names is 4096 and gets a shorter one."""
    width, heads = _first(config, WIDTH), _first(config, HEADS)
    kv = _first(config, KV) or heads
    head = config.get("head_dim") or width // heads
    few = (4, 4) if kv == heads else (min(kv, 2) * heads // kv, min(kv, 2))
    narrow = 20 if head % 5 == 0 else 16
    wide = few[0] * narrow * width // (heads * head)
    sizes = {WIDTH: wide, HEADS: few[0], KV: few[1], DEPTH: LAYERS, ("vocab_size",): VOCAB, ("head_dim",): narrow}
    sizes[INNER] = 4 * wide if _first(config, INNER) in (4 * width, None) else 3 * wide + 5
    made = dict(config) | {name: new for names, new in sizes.items() for name in names if config.get(name) is not None}
    made |= _fewer_layers(config) | _fewer_positions(config) | _ids(config)
    if config["model_type"] == "mistral" and "sliding_window" not in config:
        made |= {"sliding_window": 24} | ({"sliding_window_size": 24} if "sliding_window_size" in config else {})
    if config.get("rotary_dim"):
        made["rotary_dim"] = config["rotary_dim"] * narrow // head
    return made


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), None)


def _fewer_layers(config: Mapping[str, Any]) -> dict[str, Any]:
    depth = _first(config, DEPTH)
    types = {"layer_types": config["layer_types"][:LAYERS]} if config.get("layer_types") else {}
    windows = config.get("max_window_layers")
    return types | ({} if windows is None else {"max_window_layers": LAYERS if windows >= depth else 1})


def _fewer_positions(config: Mapping[str, Any]) -> dict[str, Any]:
    """Contexts so short that a prompt passes them."""
    rope = {name: config[name] for name in ("rope_scaling", "rope_parameters") if isinstance(config.get(name), dict)}
    original = [config, *rope.values()]
    longest = next((c[POSITIONS[3]] for c in original if c.get(POSITIONS[3])), None) or _first(config, tuple(POSITIONS))
    times = max(1, longest // CONTEXT) if longest else 1
    return {name: _shorter(value, times, config) for name, value in {**_positions(config), **rope}.items()}


def _positions(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in POSITIONS if name in config}


def _shorter(value: Any, times: int, config: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        head = config.get("head_dim") or _first(config, WIDTH) // _first(config, HEADS)
        count = (20 if head % 5 == 0 else 16) * (config.get("partial_rotary_factor") or 1) // 2
        lists = {name: factors[: int(count)] for name, factors in value.items() if isinstance(factors, list)}
        return value | lists | {name: _shorter(n, times, config) for name, n in _positions(value).items()}
    return max(4, value // times) if type(value) is int and value > 0 else value


def _ids(config: Mapping[str, Any]) -> dict[str, Any]:
    def near(id: Any) -> Any:
        if isinstance(id, list):
            return [near(one) for one in id]
        return id if type(id) is not int or id < VOCAB // 2 else max(VOCAB // 2, VOCAB - (config["vocab_size"] - id))

    return {name: near(config[name]) for name in IDS if name in config}
