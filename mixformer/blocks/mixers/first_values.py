"""Values of the first attention layer in all later ones (Zhou et al. 2024, arXiv:2410.17897), as in lucidrains' nGPT.

The first values travel in the context of a forward pass, beside the stream. Gradient checkpointing that runs a layer
without a graph and again in the backward pass ("reentrant") would lose their gradient without any error, so it is
refused; the kind that is not reentrant keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mixformer.errors import ConfigurationError, InputError
from mixformer.forward_context import ForwardContext


def with_first_values(v: Tensor, mixer: nn.Module, context: ForwardContext) -> Tensor:
    """(v + first) / 2 in later layers, v in the first one, which may run twice; v (B, S, K, h).

    Raises:
        ConfigurationError: if the first layer has other heads.
        InputError: if the first layer did not run with this context.
    """
    found = context.first_values.setdefault("values", (mixer, v))
    first_mixer, first = found
    if first_mixer is mixer:
        if getattr(mixer, "layer_idx", None) not in (None, 0) and found[1] is v:
            raise InputError(
                "value_residual needs the values of the first layer: run the whole model, or pass context."
            )
        return v
    if first.shape[2:] != v.shape[2:]:
        raise ConfigurationError(f"value_residual needs equal heads, but got {first.shape[2:]} and {v.shape[2:]}.")
    return 0.5 * (v + first.to(v.device))


def check_checkpointing(blocks: list[nn.Module], function: Callable[..., Any]) -> None:
    """Refuse reentrant gradient checkpointing of blocks that take the first values.

    Args:
        blocks: Of the model.
        function: What transformers checkpoints with.

    Raises:
        InputError: if it is reentrant and some block mixes values.
    """
    reentrant = getattr(function, "keywords", {}).get("use_reentrant", True) is not False
    if reentrant and any(getattr(module, "value_residual", False) for block in blocks for module in block.modules()):
        raise InputError(
            "value_residual and reentrant gradient checkpointing give wrong gradients: call "
            'activation_checkpointing_enable({"use_reentrant": False}).'
        )
