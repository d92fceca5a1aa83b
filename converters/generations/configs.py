"""The config.json of a MixFormer of any generation as one of today.

| generation | known by | what it means where it says nothing |
| --- | --- | --- |
| first | a block with `mixer: {}` | mha, LayerNorm with `layer_norm_epsilon`, `rotary_dim` 32 |
| second | neither `architecture` nor `phyagi_version` | as the first, and parallel blocks with a plain mlp |
| phi-msft | its `model_type` | as the second |
| sdk | all others | the defaults of `converters.config.layout` |

In the first three `rotary_dim` is at most the width of a head. The package `mixformer` reads the same table by its own
code; `tests/generations.json` holds configs of all generations, and a test holds both readings equal.
"""

from collections.abc import Mapping
from typing import Any

from converters.errors import ConfigRefused

MODEL_TYPE, PHI_MSFT = "mixformer-sequential", "phi-msft"
MODEL_TYPES = (MODEL_TYPE, PHI_MSFT)
FIRST, SECOND, SDK = "first", "second", "sdk"
WORDS = {
    FIRST: "the first generation of MixFormer (`mixer: {}`)",
    SECOND: "the second generation of MixFormer (no `architecture`)",
    PHI_MSFT: "the generation `phi-msft` of MixFormer",
    SDK: "a MixFormer of the SDK",
}
# Other names of fields, which all generations take. Where both stand they must agree.
ALIASES = {
    "max_position_embeddings": "n_positions",
    "n_ctx": "n_positions",
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "cross_sample_sep": "cross_sample_token_id",
    "input_emb_layer": "embd_layer",
    "blocks": "architecture",
}
ROTARY_DIM, N_EMBD, N_HEAD, EPS = 32, 1024, 16, 1e-5  # defaults of the first three generations
KERNELS = frozenset({"flash_attn", "flash_rotary", "fused_dense"})  # they choose kernels, whatever they say
REMOTE_CODE = "auto_map"  # names the code that those models came with, which is not needed
UNUSED = "img_processor"  # of phi-msft, null in every language model


def generation_of(config: Mapping[str, Any]) -> str | None:
    """`FIRST`, `SECOND`, `PHI_MSFT` or `SDK`; None for what is no MixFormer."""
    if config.get("model_type") not in MODEL_TYPES:
        return None
    architecture = config.get("architecture") or config.get("blocks")
    if config["model_type"] == PHI_MSFT:
        return PHI_MSFT
    if not architecture and "phyagi_version" not in config:
        return SECOND
    return FIRST if any(map(_is_first, _blocks(architecture))) else SDK


def current_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of today that means the same; what is no MixFormer stays as it is.

    Raises:
        ConfigRefused: a field has two names in it, and two values.
    """
    generation = generation_of(config)
    if generation is None:
        return dict(config)
    current = _own_names(config)
    if generation == SDK:
        return current
    ignored = {*KERNELS, REMOTE_CODE, *((UNUSED,) if current.get(UNUSED, 0) is None else ())}
    current = {name: value for name, value in current.items() if name not in ignored}
    current["model_type"] = MODEL_TYPE
    if generation == FIRST:
        current["architecture"] = _explicit(current["architecture"], _norm(current))
        current["rotary_dim"] = _rotary_dim(current, ROTARY_DIM if current.get("rotary_dim") is None else None)
        return current
    dropout = current.pop("attn_pdrop", None)
    current["rotary_dim"] = _rotary_dim(current, None if current.get("rotary_dim") else ROTARY_DIM)
    current["architecture"] = {
        "block_cls": "parallel",
        "norm": _norm(current),
        "mixer": {"mixer_cls": "mha", **({"dropout": dropout} if dropout else {})},
        "mlp": {"mlp_cls": "mlp"},
    }
    return current


def _own_names(config: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in config.items() if name not in ALIASES}
    for alias, name in ALIASES.items():
        if alias not in config:
            continue
        if found.get(name) is not None and found[name] != config[alias]:
            raise ConfigRefused(
                f"{alias} is {config[alias]!r} and {name} is {found[name]!r} in config.json; they are one field,"
                f" remove the wrong one"
            )
        found[name] = config[alias]
    return found


def _blocks(architecture: Any) -> list[Any]:
    return architecture if isinstance(architecture, list) else [architecture]


def _is_first(block: Any) -> bool:
    return isinstance(block, dict) and isinstance(block.get("mixer"), dict) and not block["mixer"]


def _norm(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"norm_cls": "torch", "eps": config.get("layer_norm_epsilon", EPS)}


def _explicit(architecture: Any, norm: Mapping[str, Any]) -> Any:
    if isinstance(architecture, list):
        return [_explicit(block, norm) for block in architecture]
    if not _is_first(architecture):
        return architecture
    return {"norm": dict(norm), **architecture, "mixer": {"mixer_cls": "mha"}}


def _rotary_dim(config: Mapping[str, Any], default: int | None) -> Any:
    """The dimensions that rotate, at most those of a head. What is no number is left to the checks of sizes."""
    said = config["rotary_dim"] if default is None else default
    width, heads = config.get("n_embd", N_EMBD), config.get("n_head", N_HEAD)
    sound = all(type(size) is int for size in (said, width, heads)) and heads > 0
    return min(said, width // heads) if sound else said
