"""What nGPT adds to MixFormer's layout: paths that only a config which uses them has, and tensors of learned scales.

Other families' tables need not know these paths: a neutral value is the same as an absent one and gives none.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from converters.config.kinds import same
from converters.errors import ConfigRefused

BLOCK = "ngpt"
NORM = "l2"
SCALED_GLU = "glu_scaled"

_MIXER, _MLP, _HEAD = "architecture.mixer.", "architecture.mlp.", "architecture.head."
EPS = "architecture.norm.eps"

# The class that a keyword belongs to: path of the class and its name.
_OWNERS = {
    "architecture.": ("architecture.block_cls", BLOCK),
    _MIXER: (_MIXER + "mixer_cls", "mha"),
    _MLP: (_MLP + "mlp_cls", SCALED_GLU),
    _HEAD: (_HEAD + "head_cls", "causal_lm"),
    "architecture.norm.": ("architecture.norm.norm_cls", NORM),
}
# Path of a scale -> its size, and whether its class can do without.
SCALES: dict[str, tuple[str, bool]] = {
    "architecture.attn_alpha": ("n_embd", False),
    "architecture.mlp_alpha": ("n_embd", False),
    _MIXER + "qk_scale": ("q_rows", True),
    _MLP + "uv_scale": ("glu_rows", False),
    _HEAD + "logit_scale": ("vocab_size", True),
}
# Keyword -> the value that changes nothing.
NEUTRAL: dict[str, Any] = {
    _MIXER + "rotary_style": "half",
    _MIXER + "rotary_formula": "reciprocal",
    _MIXER + "qk_l2_norm": False,
    _MIXER + "attn_fn": "softmax",
    _MIXER + "masked_score": None,
    _HEAD + "use_norm": True,
    "architecture.signed_rates": False,
    "architecture.normalize_stream": True,
    _MIXER + "rotary_table": "float32",
    _MIXER + "qk_l2_span": "head",
    _MIXER + "qk_scaled": "qk",
    _MIXER + "qk_order": "rotary_first",
    _MIXER + "value_residual": False,
    _MLP + "gate_init": None,
    **{f"{part}unit_weights": False for part in (_MIXER, _MLP, _HEAD)},
    EPS: 0.0,  # of a norm to length 1; other norms have one as well
}
FLAGS = (
    *(path for path, neutral in NEUTRAL.items() if isinstance(neutral, bool)),
    _MLP + "bias",
    *(f"{scale}.used" for scale in SCALES),
)
# Which heads a scale of q and k has factors for -> the size of its tensor.
SCALED = {"qk": "q_rows", "q": "q_rows", "apart": "qk_rows", "heads": "head_dim"}

# Paths that change what a model computes, so that nothing may ignore them.
CHANGES_FUNCTION = frozenset(
    {"architecture.residual", _MLP + "bias", *NEUTRAL} - {EPS}
    | {f"{scale}.{name}" for scale in SCALES for name in ("init", "scaling", "used")}
)


def spread(flat: dict[str, Any]) -> None:
    """Scales as paths of their own, and no neutral values, in a flat config.

    Raises:
        ConfigRefused: a scale is no object.
    """
    for path, neutral in NEUTRAL.items():
        if path in flat and _belongs(flat, path) and same(flat[path], neutral):
            del flat[path]
    for path, (_, optional) in SCALES.items():
        if path not in flat or not _belongs(flat, path):
            continue
        entry = flat.pop(path)
        if entry is None and optional:
            continue
        if not isinstance(entry, dict):
            raise ConfigRefused(f"{path} is {entry!r}, expected an object with init and scaling")
        flat.update({f"{path}.{name}": value for name, value in entry.items() if name != "used" or value is not True})
    if flat.get(_MLP + "mlp_cls") == SCALED_GLU:
        flat.setdefault(_MLP + "bias", False)


def _belongs(flat: Mapping[str, Any], path: str) -> bool:
    owner, name = _OWNERS[path.rpartition(".")[0] + "."]
    return bool(flat.get(owner) == name)


def scale(resolved: Mapping[str, Any], path: str, prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Key and shape of a scale's tensor, if the config has the scale.

    Raises:
        ConfigRefused: a scale that its class cannot do without is missing.
    """
    size, optional = SCALES[path]
    if path == _MIXER + "qk_scale":
        size = _scaled(resolved)
    if f"{path}.init" in resolved and f"{path}.scaling" in resolved:
        yield f"{prefix}{path.rpartition('.')[2]}.weight", (size,)
    elif not optional or f"{path}.init" in resolved or f"{path}.scaling" in resolved:
        raise ConfigRefused(f"{path} lacks init or scaling: write an object with both")


def _scaled(resolved: Mapping[str, Any]) -> str:
    said = resolved.get(_MIXER + "qk_scaled", "qk")
    if said not in SCALED:
        raise ConfigRefused(f"{_MIXER}qk_scaled is {said!r}; conversions know {', '.join(SCALED)}")
    return SCALED[said]


def alphas(resolved: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Keys and shapes of what the block itself holds.

    Raises:
        ConfigRefused: a scale is missing, or the block has another norm.
    """
    norm = resolved.get("architecture.norm.norm_cls")
    if norm != NORM:
        raise ConfigRefused(f"architecture.norm.norm_cls is {norm!r}; a block of class {BLOCK} has {NORM!r}")
    yield from scale(resolved, "architecture.attn_alpha")
    yield from scale(resolved, "architecture.mlp_alpha")
