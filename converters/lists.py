"""A list architecture whose items are all alike, as the one dict that it means."""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.errors import ConfigRefused
from converters.fields import same

DEFAULT_NORM = {"norm_cls": "torch"}
HEAD = {"head_cls": "causal_lm"}


def as_dict(config: Mapping[str, Any], items: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(config, architecture) of an equal model that has a dict.

    The head and the final norm of a list stand at the top level of the config (ours), or are the SDK's defaults: a
    biased head, and a LayerNorm with `layer_norm_epsilon`.

    Raises:
        ConfigRefused: layers differ, or the final norm is not that of the blocks.
    """
    blocks = [item if isinstance(item, dict) else {} for item in items]
    blocks = [{name: part for name, part in block.items() if name not in ("head", "loss")} for block in blocks]
    for k, block in enumerate(blocks):
        for name in sorted({*block, *blocks[0]}):
            if not same(block.get(name), blocks[0].get(name)):
                was, first = block.get(name), blocks[0].get(name)
                raise ConfigRefused(
                    f"architecture[{k}].{name} is {was!r} and architecture[0].{name} {first!r}; only one architecture"
                    f" for all layers can be expressed there"
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
            f"final_norm is {final!r} and the blocks' norm {norm!r}; only one norm can be expressed there"
        )
    top = {name: value for name, value in config.items() if name not in ("head", "loss", "final_norm")}
    top["n_layer"] = len(blocks)
    return top, {
        **blocks[0],
        "head": config.get("head") or HEAD,
        "loss": config.get("loss") or {"loss_cls": "causal_lm"},
    }
