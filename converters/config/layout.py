"""MixFormer's configuration, keys and shapes as data, so that converting never needs the model.

Defaults, keys and the traps among them follow the PhyAGI SDK 3.2.2 (`mixformer_sequential`): a norm's eps comes from
its own dict or is 1e-5, never from `layer_norm_epsilon`; `bias` of attention and head is on unless it is said to be
off. A test holds this file equal to the model's own state dict.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from converters.algebra.dims import Dims, Size
from converters.config import moe_layout as moe
from converters.config import ngpt_layout as ngpt
from converters.config import part_layout as parts
from converters.config.kinds import BOOL, POSITIVE_INT
from converters.config.list_architecture import as_dict, largest
from converters.config.mixer_defaults import positive, resolve_mixer, resolve_rotary, set_default
from converters.config.paths import unflatten as unflatten
from converters.config.spellings import in_one_spelling
from converters.errors import ConfigRefused
from converters.generations.configs import MODEL_TYPE as MODEL_TYPE
from converters.generations.configs import current_config

ARCHITECTURE = "MixFormerSequentialForCausalLM"

TOP: dict[str, Any] = {
    "vocab_size": 50304,
    "n_positions": 2048,
    "n_embd": 1024,
    "n_layer": 20,
    "n_inner": None,
    "n_head": 16,
    "n_head_kv": None,
    "rotary_dim": None,
    "activation_function": "gelu_new",
    "embd_layer": "default",
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "pad_vocab_size_multiple": 64,
    "gradient_checkpointing": False,
    "cross_sample_token_id": None,
    "use_cache": True,
}

PARTS: dict[str, dict[str, Any]] = {
    "norm": {"norm_cls": "torch"},
    "mixer": {"mixer_cls": "mha"},
    "mlp": {"mlp_cls": "fused_mlp"},
    "head": {"head_cls": "causal_lm"},
    "loss": {"loss_cls": "causal_lm"},
}

SOURCE_VOCAB = "source_vocab_size"  # not a field of any config: a size that `resolve` adds

BIASED_GLU = "glu_bias"  # ours: the SDK has no biased GLU and raises on the name
TWO_NORMS = "parallel_two_norms"  # ours: the SDK raises on the name
BLOCK_NORMS: dict[str, tuple[str, ...]] = {
    "parallel": ("ln",),
    "sequential": ("ln_1", "ln_2"),
    ngpt.BLOCK: (),
    parts.BLOCK: ("ln_1", "ln_2", "after_1", "after_2"),  # those that `norms` asks for
    TWO_NORMS: ("ln_1", "ln_2"),
}
BLOCK_MIXER = {"parallel": "mixer", TWO_NORMS: "mixer"}  # "attn" in all others
MLPS = ("mlp", "fused_mlp", "glu", BIASED_GLU, ngpt.SCALED_GLU, parts.UNBIASED_MLP, parts.XIELU_MLP, moe.MOE)
FLAGS = ("mixer.bias", "mixer.out_bias", "mixer.qk_norm", "norm.bias", "head.use_bias")
BIASED_NORMS = ("torch", "low_precision")
UNBIASED_NORMS = ("rms", "flash_rms", ngpt.NORM)


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """A MixFormer `config.json` of any generation with every default said: dotted paths to effective values.

    Raises:
        ConfigRefused: the architecture is of a form that cannot be resolved.
    """
    config = current_config(config)
    architecture = config.get("architecture") or {}
    if isinstance(architecture, list):
        config, architecture = as_dict(config, architecture)
    if not isinstance(architecture, dict):
        raise ConfigRefused(f"architecture is a {type(architecture).__name__}, expected an object or a list of them")
    for name in PARTS:
        if not isinstance(architecture.get(name, {}), dict):
            raise ConfigRefused(f"architecture.{name} is {architecture[name]!r}, expected an object")
    for name in (*(n for n in config if n.startswith("architecture.")), *(n for n in architecture if "." in n)):
        raise ConfigRefused(f"{name!r} is no name of a field; write nested objects")
    flat = {**TOP, **{name: value for name, value in config.items() if name != "architecture"}}
    flat["architecture.block_cls"] = architecture.get("path", architecture.get("block_cls", "parallel"))
    for name, value in architecture.items():
        if name not in PARTS and name not in ("path", "block_cls"):
            flat[f"architecture.{name}"] = value
    for part, default in PARTS.items():
        given = architecture.get(part, default)
        if f"{part}_cls" not in given:
            raise ConfigRefused(f"architecture.{part}.{part}_cls is missing; it says which {part} the others are about")
        for name, value in given.items():
            flat[f"architecture.{part}.{name}"] = value
    if config.get("dtype") is None and config.get("torch_dtype") is not None:
        flat["dtype"] = config["torch_dtype"]
    ngpt.spread(flat)
    parts.spread(flat)
    moe.spread(flat)
    _resolve_sizes(flat)
    return flat


def _resolve_sizes(flat: dict[str, Any]) -> None:
    """Fills in what follows from other fields, in the SDK's order of precedence."""
    multiple = flat["pad_vocab_size_multiple"]
    if multiple is not None and not POSITIVE_INT.holds(multiple):
        raise ConfigRefused(f"pad_vocab_size_multiple is {multiple!r}, expected {POSITIVE_INT.words} or null")
    if type(multiple) is int and multiple > 0 and type(flat["vocab_size"]) is int:
        flat["vocab_size"] = -(-flat["vocab_size"] // multiple) * multiple
    resolve_rotary(flat)
    if flat["architecture.mixer.mixer_cls"] == "mha":
        resolve_mixer(flat)
    flat[SOURCE_VOCAB] = _source_vocab(flat)
    if flat["architecture.norm.norm_cls"] != ngpt.NORM:
        set_default(flat, "architecture.norm.eps", 1e-5)
    if flat["architecture.mlp.mlp_cls"] in MLPS:
        set_default(flat, "architecture.mlp.act_fn", flat["activation_function"])
        set_default(flat, "architecture.mlp.n_inner", flat["n_inner"] or 4 * positive(flat, "n_embd"))
    set_default(flat, "architecture.head.use_bias", flat["architecture.head.head_cls"] == "causal_lm")
    in_one_spelling(flat)


def _source_vocab(flat: Mapping[str, Any]) -> Any:
    """Rows of the vocabulary before a conversion padded it; as many as there are, if it did not or they changed."""
    residue = flat.get("converted_from")
    padding = residue.get("padding") if isinstance(residue, dict) else None
    if isinstance(padding, dict) and padding.get("padded") == flat["vocab_size"]:
        return padding.get("vocab_size")
    return flat["vocab_size"]


def _check_flags(resolved: Mapping[str, Any]) -> None:
    for path in ("tie_word_embeddings", *(f"architecture.{name}" for name in FLAGS), *ngpt.FLAGS, *parts.FLAGS):
        if resolved.get(path) is not None and not BOOL.holds(resolved[path]):
            raise ConfigRefused(f"{path} is {resolved[path]!r}, expected {BOOL.words}")


def dims_of(resolved: Mapping[str, Any]) -> Dims:
    """The sizes of a resolved MixFormer config, by name.

    Raises:
        ConfigRefused: a size is missing, not a positive integer, or contradicts another.
    """
    mixer = "architecture.mixer."
    _one_of(resolved, mixer + "mixer_cls", ("mha",))
    _one_of(resolved, "architecture.mlp.mlp_cls", MLPS)
    names = ("vocab_size", SOURCE_VOCAB, "n_positions", "n_embd", "n_layer")
    sizes = {name: positive(resolved, name) for name in names}
    sizes["n_inner"] = positive(resolved, "architecture.mlp.n_inner")
    for name in ("n_head", "n_head_kv", "head_dim"):
        sizes[name] = positive(resolved, mixer + name)
    if sizes["n_head"] % sizes["n_head_kv"]:
        raise ConfigRefused(f"n_head {sizes['n_head']} is not a multiple of n_head_kv {sizes['n_head_kv']}")
    sizes["offset_positions"] = sizes["n_positions"] + 2
    sizes["q_rows"] = sizes["n_head"] * sizes["head_dim"]
    sizes["kv_rows"] = sizes["n_head_kv"] * sizes["head_dim"]
    rotary = largest(resolved[mixer + "rotary_dim"])
    if type(rotary) is not int or rotary > sizes["head_dim"]:
        raise ConfigRefused(f"{mixer}rotary_dim is {rotary!r}, expected a number up to head_dim {sizes['head_dim']}")
    sizes["half_rotary"] = max(rotary, 0) // 2
    sizes["half_rows"] = sizes["n_head"] * sizes["half_rotary"]
    sizes["rotary_rows"] = sizes["n_head"] * max(rotary, 0)
    sizes["passing_rows"] = sizes["q_rows"] - sizes["rotary_rows"]
    sizes["kv_rotary_rows"] = sizes["n_head_kv"] * max(rotary, 0)
    sizes["kv_passing_rows"] = sizes["kv_rows"] - sizes["kv_rotary_rows"]
    sizes["qk_rows"] = sizes["q_rows"] + sizes["kv_rows"]
    sizes["qkv_rows"] = sizes["q_rows"] + 2 * sizes["kv_rows"]
    sizes["glu_rows"] = 2 * sizes["n_inner"]
    sizes["one"] = 1
    sizes |= moe.sizes(resolved, sizes["n_embd"], sizes["n_inner"])
    return Dims(sizes)


def tensors(resolved: Mapping[str, Any]) -> dict[str, tuple[Size, ...]]:
    """Key -> shape of every tensor in a saved MixFormer, in the model's order.

    Raises:
        ConfigRefused: a registry name that this layout does not describe, or a flag that is none.
    """
    dims = dims_of(resolved)
    _check_flags(resolved)
    found = dict(_embedding(resolved))
    for block in range(1, dims["n_layer"] + 1):
        found.update((f"layers.{block}.{name}", shape) for name, shape in _block(resolved))
    found.update((f"layers.{dims['n_layer'] + 1}.{name}", shape) for name, shape in _head(resolved))
    return {key: tuple(dims[name] for name in shape) for key, shape in found.items()}


Named = Iterator[tuple[str, tuple[str, ...]]]


def _embedding(resolved: Mapping[str, Any]) -> Named:
    known = ("default", "positional", parts.SCALED, parts.SCALED_TABLE, parts.NORMED, parts.OFFSET, "unit")
    kind = _one_of(resolved, "embd_layer", known)
    yield "layers.0.wte.weight", ("vocab_size", "n_embd")
    if kind in ("positional", parts.OFFSET):
        yield "layers.0.wpe.weight", ("n_positions" if kind == "positional" else "offset_positions", "n_embd")
    if kind == parts.NORMED:
        yield from _norm(resolved, "layers.0.ln", "n_embd")


def _block(resolved: Mapping[str, Any]) -> Named:
    kind = _one_of(resolved, "architecture.block_cls", tuple(BLOCK_NORMS))
    for norm in parts.block_norms(resolved) if kind == parts.BLOCK else BLOCK_NORMS[kind]:
        yield from _norm(resolved, norm, "n_embd")
    mixer = BLOCK_MIXER.get(kind, "attn")
    yield from _linear(f"{mixer}.Wqkv", ("qkv_rows", "n_embd"), resolved["architecture.mixer.bias"])
    yield from _linear(f"{mixer}.out_proj", ("n_embd", "q_rows"), resolved["architecture.mixer.out_bias"])
    if resolved["architecture.mixer.qk_norm"]:
        for name, size, biased in parts.qk_norms(resolved):
            yield from _norm(resolved, f"{mixer}.{name}", size, biased=biased)
    yield from ngpt.scale(resolved, "architecture.mixer.qk_scale", f"{mixer}.")
    yield from _mlp(resolved)
    if kind == ngpt.BLOCK:
        yield from ngpt.alphas(resolved)


def _mlp(resolved: Mapping[str, Any]) -> Named:
    kind = _one_of(resolved, "architecture.mlp.mlp_cls", MLPS)
    if kind == moe.MOE:
        yield from moe.tensors(resolved)
        return
    prefix = "mlp.mlp" if kind == "fused_mlp" else "mlp"
    rows = "glu_rows" if kind in ("glu", BIASED_GLU, ngpt.SCALED_GLU) else "n_inner"
    unbiased = kind in ("glu", parts.UNBIASED_MLP, parts.XIELU_MLP)
    bias = resolved["architecture.mlp.bias"] if kind == ngpt.SCALED_GLU else not unbiased
    yield from _linear(f"{prefix}.fc1", (rows, "n_embd"), bias)
    yield from _linear(f"{prefix}.fc2", ("n_embd", "n_inner"), bias)
    if kind == ngpt.SCALED_GLU:
        yield from ngpt.scale(resolved, "architecture.mlp.uv_scale", "mlp.")
    yield from parts.activation(resolved)


def _head(resolved: Mapping[str, Any]) -> Named:
    _one_of(resolved, "architecture.head.head_cls", ("causal_lm",))
    if resolved.get("architecture.head.use_norm", True):
        yield from _norm(resolved, "ln", "n_embd")
    if not resolved["tie_word_embeddings"]:
        yield "linear.weight", ("vocab_size", "n_embd")
    if resolved["architecture.head.use_bias"]:
        yield "linear.bias", ("vocab_size",)
    yield from ngpt.scale(resolved, "architecture.head.logit_scale")


def _norm(resolved: Mapping[str, Any], name: str, size: str, *, biased: bool = True) -> Named:
    kind = _one_of(resolved, "architecture.norm.norm_cls", BIASED_NORMS + UNBIASED_NORMS)
    if kind == ngpt.NORM or not has_norm_weight(resolved):
        return
    yield f"{name}.weight", (size,)
    if biased and has_norm_bias(resolved):
        yield f"{name}.bias", (size,)


def has_norm_bias(resolved: Mapping[str, Any]) -> bool:
    """Whether norms have a bias: those of torch.nn.LayerNorm unless its keyword `bias` is off."""
    return (
        resolved["architecture.norm.norm_cls"] in BIASED_NORMS
        and resolved.get("architecture.norm.bias") is not False
        and has_norm_weight(resolved)
    )


def has_norm_weight(resolved: Mapping[str, Any]) -> bool:
    """Whether norms have parameters: not where `elementwise_affine` is off."""
    return resolved.get(parts.AFFINE) is not False


def _linear(name: str, shape: tuple[str, str], bias: bool) -> Named:
    yield f"{name}.weight", shape
    if bias:
        yield f"{name}.bias", shape[:1]


def _one_of(resolved: Mapping[str, Any], path: str, known: tuple[str, ...]) -> str:
    value = resolved.get(path)
    if value not in known:
        raise ConfigRefused(f"{path} is {value!r}; conversions know {', '.join(known)}")
    return str(value)
