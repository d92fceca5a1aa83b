"""Gradient checkpointing, and parts that hand tensors on beside the stream.

Reentrant checkpointing runs a block without a graph, and again in the backward pass. What left the block beside its
output then has no gradient, and no error says so. The kind that is not reentrant keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from mixformer.errors import InputError

BESIDE = ("value_residual", "router_loss")  # attributes, true on parts that hand on values or router logits


def check_checkpointing(blocks: list[nn.Module], function: Callable[..., Any]) -> None:
    """Refuse reentrant gradient checkpointing where it would lose gradients.

    Args:
        blocks: Of the model.
        function: What transformers checkpoints with.

    Raises:
        InputError: if it is reentrant and some part has one of `BESIDE`.
    """
    if getattr(function, "keywords", {}).get("use_reentrant", True) is False:
        return
    parts = [part for block in blocks for part in block.modules()]
    for name in BESIDE:
        if any(getattr(part, name, False) for part in parts):
            raise InputError(
                f"{name} and reentrant gradient checkpointing give wrong gradients: enable gradient checkpointing with "
                '{"use_reentrant": False}.'
            )
