"""A list architecture as the one dict that it means, and back. Its items may differ in windows and rotary positions."""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.config.kinds import same
from converters.errors import ConfigRefused

DEFAULT_NORM = {"norm_cls": "torch"}
HEAD = {"head_cls": "causal_lm"}


WINDOW = "window_size"
VARYING = (WINDOW, "rotary_dim", "rotary_base", "rope_parameters")  # keywords of mixers that may differ
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


def largest(value: Any) -> Any:
    """A size of all layers, or the largest where they differ."""
    return max(value, key=lambda one: one if type(one) is int else 0) if isinstance(value, PerLayer) else value


def as_list(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with its architecture in the usual order, as a list if mixers differ from layer to layer."""
    said = config["architecture"]
    architecture = {name: said[name] for name in (*SECTIONS, *said) if name in said}
    mixer = architecture.get("mixer", {})
    varying = {name: mixer[name] for name in VARYING if isinstance(mixer.get(name), PerLayer)}
    if not varying:
        return {**config, "architecture": architecture}
    shared = {name: part for name, part in architecture.items() if name not in ("head", "loss")}
    rows = [dict(zip(varying, values, strict=True)) for values in zip(*varying.values(), strict=True)]
    alike = {name: value for name, value in mixer.items() if name not in varying}
    unknown = {name: value for name, value in UNKNOWN_TO_SDK.items() if name not in mixer}
    mixers = ({**alike, **_said(row), **unknown} for row in rows)
    top = {name: part for name, part in architecture.items() if name in ("head", "loss")}
    items = [{**shared, "mixer": mixer} for mixer in mixers]
    return {**config, "architecture": items, **top, "final_norm": dict(architecture["norm"])}


def _said(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a mixer says of its layer: no parameters of a rope are none, but a window is said."""
    return {name: value for name, value in row.items() if name == WINDOW or value is not None}


def as_dict(config: Mapping[str, Any], items: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(config, architecture) of an equal model that has a dict.

    The head and the final norm of a list stand at the top level of the config (ours), or are the SDK's defaults: a
    biased head, and a LayerNorm with `layer_norm_epsilon`.

    Raises:
        ConfigRefused: layers differ, or the final norm is not that of the blocks.
    """
    blocks = [item if isinstance(item, dict) else {} for item in items]
    blocks = [{name: part for name, part in block.items() if name not in ("head", "loss")} for block in blocks]
    blocks, varying = _without_varying(blocks)
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
    if varying:
        blocks[0] = {**blocks[0], "mixer": {**blocks[0]["mixer"], **varying}}
    return top, {
        **blocks[0],
        "head": config.get("head") or HEAD,
        "loss": config.get("loss") or {"loss_cls": "causal_lm"},
    }


def _without_varying(blocks: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The blocks without what may differ in their mixers, and that: the value of all, or one for each."""
    if not all(isinstance(block.get("mixer"), dict) for block in blocks):
        return list(blocks), {}
    mixers = [block["mixer"] for block in blocks]
    rest = [{name: value for name, value in mixer.items() if name not in VARYING} for mixer in mixers]
    named = [name for name in VARYING if any(name in mixer for mixer in mixers)]
    varying = {name: per_layer([mixer.get(name) for mixer in mixers]) for name in named}
    return [{**block, "mixer": mixer} for block, mixer in zip(blocks, rest, strict=True)], varying
