"""One spelling for what a MixFormer config can say in several ways, so that tables of fields see each thing once.

A value that is the default is no value, and the SDK's YaRN is the rope type "yarn" of transformers wherever that has a
word for it. What it has no word for stays as it is, and is refused by its name.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from converters.config.kinds import BOOL, POSITIVE, POSITIVE_INT, Kind, same

MIXER = "architecture.mixer."
ROPE_SCALING, SCALE_BASE, PARAMETERS = MIXER + "rope_scaling", MIXER + "rotary_scale_base", MIXER + "rope_parameters"

# Keywords that parts of the SDK take and that say nothing at these values.
NEUTRAL: dict[str, Any] = {
    MIXER + "device": None,
    "architecture.mlp.dtype": None,
    "architecture.norm.device": None,
    "architecture.norm.dtype": None,
    "architecture.norm.elementwise_affine": True,
    "architecture.norm.dropout_p": 0.0,
    "architecture.norm.zero_centered_weight": False,
    "architecture.head.dtype": None,
}
NO_WINDOW = re.compile(r"\s*[(\[]?\s*-1\s*(,\s*-?\d{1,9}\s*)?[)\]]?\s*")

# The SDK's keys of YaRN: sound values, and those that transformers' YaRN has too (None: any sound one).
YARN: dict[str, tuple[Kind, Any]] = {
    "attn_factor": (POSITIVE, None),
    "beta_fast": (POSITIVE, None),
    "beta_slow": (POSITIVE, None),
    "extrapolation_factor": (POSITIVE, 1.0),
    "dynamic": (BOOL, False),
    "finetuned": (BOOL, None),
    "pos_idx_in_fp32": (BOOL, True),
}


def in_one_spelling(flat: dict[str, Any]) -> None:
    """Rewrites a resolved config in place."""
    for path, neutral in NEUTRAL.items():
        if path in flat and same(flat[path], neutral):
            del flat[path]
    if flat["architecture.mixer.mixer_cls"] == "mha":
        _scale(flat)
        _window(flat)
        _rope(flat)


def _scale(flat: dict[str, Any]) -> None:
    """softmax_scale equal to 1 / sqrt(head_dim) is its default; rounding may differ in the last place."""
    scale, head_dim = flat[MIXER + "softmax_scale"], flat[MIXER + "head_dim"]
    sound = POSITIVE.holds(scale) and POSITIVE_INT.holds(head_dim)
    if sound and math.isclose(scale, head_dim**-0.5, rel_tol=1e-15):
        flat[MIXER + "softmax_scale"] = None


def _window(flat: dict[str, Any]) -> None:
    """A window without a left side hides nothing from causal attention."""
    window = flat[MIXER + "window_size"]
    text = str(list(window)) if type(window) in (list, tuple) else str(window) if type(window) is int else window
    if flat[MIXER + "causal"] is True and isinstance(text, str) and NO_WINDOW.fullmatch(text):
        flat[MIXER + "window_size"] = None


def _rope(flat: dict[str, Any]) -> None:
    scaling, base = flat[ROPE_SCALING], flat[MIXER + "rotary_base"]
    if not isinstance(scaling, dict):
        return
    if type(flat[MIXER + "rotary_dim"]) is int and flat[MIXER + "rotary_dim"] <= 0:  # nothing turns
        flat.update({ROPE_SCALING: None, SCALE_BASE: None})
        return
    kind = scaling.get("rope_type") or scaling.get("type")
    rest = {name: value for name, value in scaling.items() if name not in ("type", "rope_type")}
    if kind in (None, "default") and (not rest or same(rest, {"rope_theta": base})):
        flat[ROPE_SCALING] = None
    elif kind == "yarn" and flat.get(PARAMETERS) is None:
        parameters, factor = _yarn(rest, flat), flat[SCALE_BASE]
        flat.update({ROPE_SCALING: None, SCALE_BASE: None})
        if parameters is not None:
            flat[PARAMETERS] = parameters
        else:  # refused by its own name, and not by the factor's, which alone would do
            flat[ROPE_SCALING] = {**scaling, "rotary_scale_base": factor}


def _expressible(value: Any, kind: Kind, only: Any) -> bool:
    return kind.holds(value) and (only is None or same(value, only))


def _yarn(rest: Mapping[str, Any], flat: Mapping[str, Any]) -> dict[str, Any] | None:
    """transformers' parameters of a static YaRN of the SDK, None where it has none that mean the same.

    The SDK's has the factor in `rotary_scale_base`, n_positions as original length, and
    (0.1 ln factor + 1) * attn_factor as the factor of cosines and sines (arXiv 2309.00071, section 3.4).
    """
    if not all(name in YARN and _expressible(value, *YARN[name]) for name, value in rest.items()):
        return None
    factor, length = flat[SCALE_BASE], flat["n_positions"]
    if not (factor is None or (POSITIVE.holds(factor) and factor >= 1)) or not POSITIVE_INT.holds(length):
        return None
    factor = 1.0 if factor is None else float(factor)
    return {
        "rope_type": "yarn",
        "rope_theta": flat[MIXER + "rotary_base"],
        "factor": factor,
        "original_max_position_embeddings": length,
        "attention_factor": (0.1 * math.log(factor) + 1.0) * rest.get("attn_factor", 1.0),
        "beta_fast": float(rest.get("beta_fast", 32)),
        "beta_slow": float(rest.get("beta_slow", 1)),
    }
