"""Values of the first attention layer in all later ones (Zhou et al. 2024, arXiv:2410.17897), as in lucidrains' nGPT.

The first values travel in the context of a forward pass, beside the stream: see `check_checkpointing`.
"""

from __future__ import annotations

from torch import Tensor, nn

from mixformer.errors import ConfigurationError, InputError
from mixformer.forward_context import ForwardContext


def with_first_values(v: Tensor, mixer: nn.Module, context: ForwardContext) -> Tensor:
    """(v + first) / 2 in later layers, v in the first one, which may run twice; v (B, S, K, h).

    Raises:
        ConfigurationError: if the first layer has other heads.
        InputError: if the first layer did not run with this context.
    """
    first_mixer, first = context.first_values.setdefault("values", (mixer, v))
    if first_mixer is mixer:
        if getattr(mixer, "layer_idx", None) not in (None, 0):
            raise InputError(
                "value_residual needs the values of the first layer: run the whole model, or pass context."
            )
        return v
    if first.shape[2:] != v.shape[2:]:
        raise ConfigurationError(f"value_residual needs equal heads, but got {first.shape[2:]} and {v.shape[2:]}.")
    return 0.5 * (v + first.to(v.device))
