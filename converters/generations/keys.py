"""Names that tensors of a MixFormer had in earlier generations.

| then | now |
| --- | --- |
| phi-msft: `transformer.embd.` | `layers.0.` |
| phi-msft: `transformer.h.{i}.` | `layers.{i+1}.` |
| phi-msft: `lm_head.` | `layers.{n_layer+1}.` |
| first generation: `mlp.fc_in`, `mlp.fc_out` | `mlp.fc1`, `mlp.fc2` |
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from converters.errors import CoverageRefused

BLOCK = re.compile(r"transformer\.h\.(\d{1,6})\.")
MLP = (("fc_in", "fc1"), ("fc_out", "fc2"))


def depth_of(config: Mapping[str, Any]) -> int | None:
    """The number of blocks of a config of today; None where it says none."""
    architecture, n_layer = config.get("architecture"), config.get("n_layer", 20)
    if isinstance(architecture, list) and architecture:
        return len(architecture)
    return n_layer if type(n_layer) is int else None


def current_names(keys: Iterable[str], n_layer: int | None) -> dict[str, str]:
    """Key -> its name today, for the keys of one MixFormer without wrappers.

    Raises:
        CoverageRefused: two keys are one tensor.
    """
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for key in keys:
        names[key] = now = current_name(key, n_layer)
        if now in taken:
            raise CoverageRefused(f"{taken[now]} and {key} are both {now}; expected it once")
        taken[now] = key
    return names


def current_name(key: str, n_layer: int | None) -> str:
    """What a tensor is called today."""
    if key.startswith("transformer.embd."):
        key = "layers.0." + key.removeprefix("transformer.embd.")
    elif block := BLOCK.match(key):
        key = f"layers.{int(block[1]) + 1}.{key[block.end() :]}"
    elif key.startswith("lm_head.") and n_layer is not None:
        key = f"layers.{n_layer + 1}.{key.removeprefix('lm_head.')}"
    for then, now in MLP:
        key = key.replace(f".mlp.{then}.", f".mlp.{now}.")
    return key
