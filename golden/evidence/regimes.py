"""Lengths at which a model changes its behaviour: only a longer prompt shows what is beyond.

Two things depend on the length: a window cuts off keys, and dynamic and longrope frequencies change beyond the original
context. Static scalings (linear, yarn, llama3) turn every position and need no long prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

CHANGING = ("dynamic", "longrope", "su")
MARGIN = 32
"""Tokens of a prompt beyond the length at which the behaviour changes."""

LONGEST, FARTHEST = 1024, 16384
"""Tokens up to which a prompt is always made longer; and up to which it is where that is cheap."""
CHEAP_WORK, CHEAP_MEMORY = 4e11, 2**28
"""Weights x tokens, and bytes of logits or of one layer's scores in float64, up to which a prompt is cheap."""


def regimes(config: Any) -> dict[str, int]:
    """Name -> tokens up to which the model behaves in one way, of a transformers config or a config.json.

    Every layer of a list is asked. Names of equal things are equal for both sides of a conversion.
    """
    found: dict[str, int] = {}
    for name, size in (*_windows(config), *_contexts(config)):
        if size > 0:
            found[f"{name} of {size}"] = size
    return found


def _get(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


def _mixers(config: Any) -> list[Mapping[str, Any]]:
    """The mixers of a MixFormer, one for each kind of layer that its architecture lists."""
    architecture = _get(config, "architecture")
    listed = (
        architecture if isinstance(architecture, Sequence) and not isinstance(architecture, str) else [architecture]
    )
    blocks = [block for block in listed if isinstance(block, Mapping)]
    return [mixer for block in blocks if isinstance(mixer := block.get("mixer") or block.get("attn"), Mapping)]


def _windows(config: Any) -> Iterator[tuple[str, int]]:
    for mixer in _mixers(config):
        sides = [int(side) for side in re.findall(r"-?\d+", str(mixer.get("window_size") or ""))]
        if sides and sides[0] >= 0:
            yield "window", sides[0] + 1  # (left, 0) shows left + 1 tokens
    size, layers = _get(config, "sliding_window"), _get(config, "layer_types")
    some = _get(config, "use_sliding_window") is not False
    if isinstance(layers, Sequence) and layers:
        some = "sliding_attention" in layers
    if type(size) is int and some:
        yield "window", size


def _contexts(config: Any) -> Iterator[tuple[str, int]]:
    trained = _whole(_get(config, "max_position_embeddings")) or _whole(_get(config, "n_positions"))
    own = _whole(_get(config, "original_max_position_embeddings"))
    for rope in _ropes(config):
        kind = rope.get("rope_type", rope.get("type"))
        if kind in CHANGING or rope.get("dynamic"):
            yield "original context of its rope", _whole(rope.get("original_max_position_embeddings")) or own or trained


def _ropes(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every description of rotary scaling, also one for each kind of layer."""
    sides = [config, *_mixers(config)]
    for rope in (_get(side, name) for side in sides for name in ("rope_parameters", "rope_scaling")):
        if isinstance(rope, Mapping):
            yield rope
            yield from (inner for inner in rope.values() if isinstance(inner, Mapping))


def _whole(value: Any) -> int:
    return value if type(value) is int else 0


def reach(length: int, usual: int, elements: int, vocab: int, heads: int) -> int:
    """Tokens of a prompt that goes beyond ``length``; 0 where the usual prompts do, or where one would cost too much.

    Args:
        usual: tokens of the usual prompts.
        elements, vocab, heads: sizes of the model.
    """
    tokens = length + MARGIN
    if usual >= tokens or tokens > FARTHEST:
        return 0
    cheap = elements * tokens <= CHEAP_WORK and 8 * tokens * max(vocab, heads * tokens) <= CHEAP_MEMORY
    return tokens if tokens <= LONGEST or cheap else 0
