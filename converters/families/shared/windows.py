"""Sliding windows: the number of tokens in theirs, the number of keys to the left in ours.

A window of W tokens includes the query's own, so l = W - 1 keys are to the left (flash-attn's inclusive convention).
Ours is written as the string "(l, 0)", the only form that all code of the SDK accepts.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.config.cannot_hold import CannotHold
from converters.config.kinds import BOOL, POSITIVE_INT
from converters.config.list_architecture import PerLayer, per_layer
from converters.errors import ConfigRefused

PATH = "architecture.mixer.window_size"
FULL, SLIDING = "full_attention", "sliding_attention"


def written(tokens: int | None) -> str | None:
    """A window of theirs in the spelling of ours."""
    return None if tokens is None else f"({tokens - 1}, 0)"


def tokens_of(window: Any) -> int | None:
    """The number of tokens in a causal window of ours; None for all.

    Raises:
        CannotHold: it is not one window for all layers in a spelling that a MixFormer reads.
    """
    sides = window
    if isinstance(window, str):
        found = re.fullmatch(r"\s*[(\[]?\s*(-?\d{1,9})\s*(?:,\s*(-?\d{1,9})\s*)?[)\]]?\s*", window)
        sides = [int(side) for side in found.groups() if side] if found else window
    if type(sides) is int:
        sides = [sides]
    lengths = (2,) if sides is window else (1, 2)
    whole = isinstance(sides, list | tuple) and len(sides) in lengths and all(type(side) is int for side in sides)
    if window is not None and (not whole or isinstance(window, PerLayer) or min(sides) < -1):
        raise CannotHold(f"its {PATH} is {window!r}", "one causal window for all layers", f'{PATH} "(l, 0)"')
    return None if window is None or sides[0] == -1 else sides[0] + 1


def _window(theirs: Mapping[str, Any], default: int | None) -> int | None:
    value = theirs.get("sliding_window", default)
    if value is not None and not POSITIVE_INT.holds(value):
        raise ConfigRefused(f"sliding_window is {value!r}, expected a positive integer or null")
    return None if value is None else int(value)


@dataclass(frozen=True)
class SlidingWindow:
    """`sliding_window`, one for all layers; `default` where theirs does not have it."""

    default: int | None = None
    theirs: tuple[str, ...] = ("sliding_window",)
    ours: tuple[str, ...] = (PATH,)
    also: tuple[str, ...] = ()

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """The window in the spelling of ours."""
        return {PATH: written(_window(theirs, self.default))}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """The number of tokens in the window."""
        return {"sliding_window": tokens_of(ours.get(PATH))}


@dataclass(frozen=True)
class SwitchedWindow:
    """`sliding_window`, for all layers where `use_sliding_window` is on; `default` where theirs does not say it."""

    default: int
    theirs: tuple[str, ...] = ("use_sliding_window", "sliding_window")
    ours: tuple[str, ...] = (PATH,)
    also: tuple[str, ...] = ()

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """The window in the spelling of ours."""
        use = theirs.get("use_sliding_window", False)
        if not BOOL.holds(use):
            raise ConfigRefused(f"use_sliding_window is {use!r}, expected {BOOL.words}")
        return {PATH: written(_window(theirs, self.default)) if use else None}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Both fields."""
        tokens = tokens_of(ours.get(PATH))
        return {"use_sliding_window": tokens is not None, "sliding_window": tokens}


@dataclass(frozen=True)
class LayerWindows:
    """Qwen's windows: the layers in `layer_types`, or without it all layers from `max_window_layers` on."""

    theirs: tuple[str, ...] = ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types")
    ours: tuple[str, ...] = (PATH,)
    also: tuple[str, ...] = ()

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """The window of all layers, or one for each.

        Raises:
            ConfigRefused: a value is not allowed, or a layer has a window where there is none.
        """
        use = theirs.get("use_sliding_window", False)
        if not BOOL.holds(use):
            raise ConfigRefused(f"use_sliding_window is {use!r}, expected {BOOL.words}")
        tokens = _window(theirs, 4096) if use else None
        kinds = _kinds(theirs, tokens)
        if SLIDING in kinds and tokens is None:
            raise ConfigRefused(
                f"layer_types has {SLIDING!r}, but there is no window; set use_sliding_window and sliding_window"
            )
        return {PATH: per_layer([written(tokens if kind == SLIDING else None) for kind in kinds])}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """All four fields.

        Raises:
            CannotHold: there are windows of different sizes.
        """
        window, n_layer = ours.get(PATH), ours["n_layer"]
        if not POSITIVE_INT.holds(n_layer):
            raise ConfigRefused(f"n_layer is {n_layer!r}, expected {POSITIVE_INT.words}")
        found = [tokens_of(one) for one in (window if isinstance(window, PerLayer) else [window] * n_layer)]
        tokens = one_size(found, window)
        kinds = [SLIDING if tokens else FULL for tokens in found]
        first = kinds.index(SLIDING) if tokens else n_layer
        return {"use_sliding_window": bool(tokens), "sliding_window": tokens, "max_window_layers": first} | {
            "layer_types": kinds
        }


def one_size(found: Sequence[int | None], window: Any) -> int | None:
    """The size of all windows in a list of those of all layers; None where no layer has one.

    Raises:
        CannotHold: there are windows of different sizes.
    """
    sizes = sorted({tokens for tokens in found if tokens is not None})
    if len(sizes) > 1:
        raise CannotHold(f"its {PATH} is {window!r}", "one window for all layers that have one", "sliding_window")
    return sizes[0] if sizes else None


def _kinds(theirs: Mapping[str, Any], tokens: int | None) -> list[str]:
    """The layer type of each layer."""
    n_layer, first = theirs["num_hidden_layers"], theirs.get("max_window_layers", 28)
    if type(first) is not int:
        raise ConfigRefused(f"max_window_layers is {first!r}, expected a whole number")
    said = theirs.get("layer_types")
    if said is None:
        return [SLIDING if tokens is not None and i >= first else FULL for i in range(n_layer)]
    if not isinstance(said, list) or len(said) != n_layer or not all(kind in (FULL, SLIDING) for kind in said):
        raise ConfigRefused(f"layer_types is {said!r}, expected a list of {n_layer}, each {FULL!r} or {SLIDING!r}")
    return said


GPT_NEO_KINDS = ("global", "local")


@dataclass(frozen=True)
class LocalLayers:
    """`attention_types`, pairs of a list of kinds and how often it comes; `attention_layers` repeats them."""

    theirs: tuple[str, ...] = ("attention_types", "attention_layers", "window_size")
    ours: tuple[str, ...] = (PATH,)
    also: tuple[str, ...] = ()

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """The window of all layers, or one for each."""
        said, window = theirs.get("attention_types"), theirs.get("window_size", 256)
        kinds = _layers([[list(GPT_NEO_KINDS), 12]] if said is None else said)
        n_layer = theirs.get("num_layers", theirs.get("num_hidden_layers"))
        if kinds is None or len(kinds) != n_layer or theirs.get("attention_layers", kinds) != kinds:
            layers = theirs.get("attention_layers", "missing")
            raise ConfigRefused(
                f"attention_types is {said!r} and attention_layers {layers!r}, expected both to say one of"
                f" {GPT_NEO_KINDS} for each of {n_layer} layers"
            )
        if not POSITIVE_INT.holds(window):
            raise ConfigRefused(f"window_size is {window!r}, expected {POSITIVE_INT.words}")
        return {PATH: per_layer([written(window if kind == "local" else None) for kind in kinds])}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """All three fields."""
        window = ours.get(PATH)
        found = [tokens_of(one) for one in (window if isinstance(window, PerLayer) else [window] * ours["n_layer"])]
        kinds = ["global" if tokens is None else "local" for tokens in found]
        return {
            "attention_types": [[kinds, 1]],
            "attention_layers": kinds,
            "window_size": one_size(found, window) or 256,
        }


def _layers(types: Any) -> list[str] | None:
    """The kind of each layer; None where the field says something else."""
    if not isinstance(types, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in types):
        return None
    if not all(type(n) is int and 0 <= n < 1000 and isinstance(kinds, list) for kinds, n in types):
        return None
    found = [kind for kinds, n in types for kind in kinds * n]
    return found if all(kind in GPT_NEO_KINDS for kind in found) else None
