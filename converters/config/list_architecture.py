"""A list architecture as the one dict that it means, and back. Its items may differ in their windows only."""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.kinds import same
from converters.errors import ConfigRefused

DEFAULT_NORM = {"norm_cls": "torch"}
HEAD = {"head_cls": "causal_lm"}


WINDOW = "window_size"
SECTIONS = ("block_cls", "norm", "mixer", "mlp", "head")
# A keyword of ours with its neutral value. The SDK ignores the head and the final norm of a list, so each mixer of a
# list has a keyword that the SDK refuses (docs/sdk-extensions.md).
UNKNOWN_TO_SDK = {"softcap": 0.0}


class PerLayer(tuple[Any, ...]):
    """A value for each layer, where they are not all the same."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"one for each layer, {list(self)!r}"


def per_layer(values: Sequence[Any]) -> Any:
    """The value of all layers, or one for each where they differ."""
    return values[0] if all(same(value, values[0]) for value in values) else PerLayer(values)


def as_list(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with its architecture in the usual order, as a list if windows differ from layer to layer."""
    said = config["architecture"]
    architecture = {name: said[name] for name in (*SECTIONS, *said) if name in said}
    windows = architecture.get("mixer", {}).get(WINDOW)
    if not isinstance(windows, PerLayer):
        return {**config, "architecture": architecture}
    shared = {name: part for name, part in architecture.items() if name not in ("head", "loss")}
    mixers = ({**shared["mixer"], WINDOW: window, **UNKNOWN_TO_SDK} for window in windows)
    top = {name: part for name, part in architecture.items() if name in ("head", "loss")}
    items = [{**shared, "mixer": mixer} for mixer in mixers]
    return {**config, "architecture": items, **top, "final_norm": dict(architecture["norm"])}


def as_dict(config: Mapping[str, Any], items: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(config, architecture) of an equal model that has a dict.

    The head and the final norm of a list stand at the top level of the config (ours), or are the SDK's defaults: a
    biased head, and a LayerNorm with `layer_norm_epsilon`.

    Raises:
        ConfigRefused: layers differ, or the final norm is not that of the blocks.
    """
    blocks = [item if isinstance(item, dict) else {} for item in items]
    blocks = [{name: part for name, part in block.items() if name not in ("head", "loss")} for block in blocks]
    blocks, windows = _without_windows(blocks)
    for k, block in enumerate(blocks):
        for name in sorted({*block, *blocks[0]}):
            if not same(block.get(name), blocks[0].get(name)):
                was, first = block.get(name), blocks[0].get(name)
                raise ConfigRefused(
                    f"architecture[{k}].{name} is {was!r} and architecture[0].{name} is {first!r}; only models whose"
                    f" layers are alike can be converted"
                )
    for k, block in enumerate(blocks):
        if not isinstance(block.get("norm", {}), dict):
            raise ConfigRefused(f"architecture[{k}].norm is {block['norm']!r}, expected an object")
    if not isinstance(config.get("final_norm") or {}, dict):
        raise ConfigRefused(f"final_norm is {config['final_norm']!r}, expected an object")
    default = {**DEFAULT_NORM, "eps": config.get("layer_norm_epsilon", 1e-5)}
    final, norm = config.get("final_norm") or default, blocks[0].get("norm") or DEFAULT_NORM
    if not same({"eps": 1e-5, **final}, {"eps": 1e-5, **norm}):
        raise ConfigRefused(
            f"final_norm is {final!r} and the norm of the blocks is {norm!r}; only models with one kind of norm can be"
            f" converted"
        )
    top = {name: value for name, value in config.items() if name not in ("head", "loss", "final_norm")}
    top["n_layer"] = len(blocks)
    if windows is not None:
        blocks[0] = {**blocks[0], "mixer": {**blocks[0]["mixer"], WINDOW: windows}}
    return top, {
        **blocks[0],
        "head": config.get("head") or HEAD,
        "loss": config.get("loss") or {"loss_cls": "causal_lm"},
    }


def _without_windows(blocks: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], Any]:
    """The blocks without their windows, and the windows; None where there are none."""
    if not all(isinstance(block.get("mixer"), dict) for block in blocks):
        return list(blocks), None
    mixers = [block["mixer"] for block in blocks]
    rest = [{name: value for name, value in mixer.items() if name != WINDOW} for mixer in mixers]
    windows = per_layer([mixer.get(WINDOW) for mixer in mixers])
    return [{**block, "mixer": mixer} for block, mixer in zip(blocks, rest, strict=True)], windows
