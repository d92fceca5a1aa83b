"""Keywords of MixFormer's attention with the SDK's defaults, and what follows from others where one is not said."""

from collections.abc import Mapping
from typing import Any

from converters.config.kinds import POSITIVE_INT
from converters.config.list_architecture import PerLayer
from converters.errors import ConfigRefused

MIXER: dict[str, Any] = {
    "n_head": None,
    "n_head_kv": None,
    "head_dim": None,
    "rotary_dim": None,
    "flash_attn": True,
    "causal": True,
    "use_alibi": False,
    "softmax_scale": None,
    "window_size": None,
    "dropout": 0.0,
    "fused_dense": True,
    "bias": True,
    "out_bias": None,
    "qk_norm": False,
    "flash_rotary": True,
    "rotary_base": 10000.0,
    "rotary_scale_base": None,
    "rope_scaling": None,
}

OURS_MIXER: dict[str, Any] = {"softcap": 0.0, "scale_attn_by_inverse_layer_idx": False}  # keywords the SDK lacks


def resolve_rotary(flat: dict[str, Any]) -> None:
    """Fills in the config's own `rotary_dim`: null and 0 mean n_embd // n_head, which the SDK writes there."""
    width, heads = flat["n_embd"], flat["n_head"]
    if POSITIVE_INT.holds(width) and POSITIVE_INT.holds(heads):
        flat["rotary_dim"] = flat["rotary_dim"] or width // heads


def resolve_mixer(flat: dict[str, Any]) -> None:
    """Fills in the attention of a flat config, in the SDK's order of precedence."""
    path = "architecture.mixer."
    for name, default in {**MIXER, **OURS_MIXER}.items():
        flat.setdefault(path + name, default)
    set_default(flat, path + "n_head", positive(flat, "n_head"))
    n_head = positive(flat, path + "n_head")
    width = positive(flat, "n_embd")
    set_default(flat, path + "n_head_kv", flat["n_head_kv"] or n_head)
    set_default(flat, path + "head_dim", width // n_head)
    set_default(flat, path + "rotary_dim", _rotary_dim(flat, flat[path + "head_dim"]))
    for name, default in (("rotary_dim", _rotary_dim(flat, flat[path + "head_dim"])), ("rotary_base", 10000.0)):
        if isinstance(flat[path + name], PerLayer):
            flat[path + name] = PerLayer(default if value is None else value for value in flat[path + name])
    set_default(flat, path + "out_bias", flat[path + "bias"])


def _rotary_dim(flat: Mapping[str, Any], head_dim: Any) -> Any:
    """Of a mixer that does not say it: the config's, never the mixer's whole heads.

    The SDK fails where the config's whole heads are wider than the mixer's; ours takes them for whole heads there.
    """
    found = flat["rotary_dim"]
    wider = type(head_dim) is int and found == positive(flat, "n_embd") // positive(flat, "n_head") > head_dim
    return head_dim if wider else found


def set_default(flat: dict[str, Any], path: str, value: Any) -> None:
    """Says a value where a config does not, or says null."""
    if flat.get(path) is None:
        flat[path] = value


def positive(flat: Mapping[str, Any], path: str) -> int:
    """A size of a config.

    Raises:
        ConfigRefused: it is no positive integer.
    """
    value = flat[path]
    if not POSITIVE_INT.holds(value):
        raise ConfigRefused(f"{path} is {value!r}, expected {POSITIVE_INT.words}")
    return int(value)
