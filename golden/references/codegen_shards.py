"""CodeGen2 1B and 3.7B: transformers' CodeGen, but for the order of the rows of `qkv_proj`.

Source: `modeling_codegen.py` of Salesforce/codegen2-1B, where `mp_num` is 8: the output of `qkv_proj` is seen as
(..., mp_num, 3 x local), and each of these parts as query, value and key. transformers' class has 4 in its place. Here
the output is brought from the order of the one to that of the other, so that all else is transformers' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from golden.errors import CannotBuildError

TRANSFORMERS = 4
BY_SIZE = {(16, 2048): 8, (16, 4096): 8, (32, 4096): 4, (34, 6144): 4}
"""(layers, width) of CodeGen2 1B, 3.7B, 7B and 16B -> `mp_num` of its code."""


def shards_of(config: Mapping[str, Any]) -> int:
    """How many shards the `qkv_proj` of a config's model has.

    Raises:
        CannotBuildError: the config names code of its own, and neither its sizes nor a user says the number.
    """
    from converters.checkpoint.users_word import SHARDS

    if config.get("model_type") != "codegen":
        return TRANSFORMERS
    said = SHARDS.get()
    if said is not None:
        return said
    if not config.get("auto_map") and not config.get("head_dim"):
        return TRANSFORMERS
    found = BY_SIZE.get((int(config.get("n_layer", 0)), int(config.get("n_embd", 0))))
    if found is None:
        raise CannotBuildError(
            "config.json has auto_map or head_dim, so this CodeGen runs code of its own; say how many shards its "
            "qkv_proj has: --qkv-shards N"
        )
    return found


def set_shards(model: Any, config: Mapping[str, Any]) -> None:
    """Lets a CodeGen of transformers read its `qkv_proj` in as many shards as its config means."""
    shards = shards_of(config)
    if shards == TRANSFORMERS:
        return
    for block in model.transformer.h:
        block.attn.qkv_proj.register_forward_hook(lambda module, args, out: regrouped(out, shards))


def regrouped(qkv: Tensor, shards: int) -> Tensor:
    """(..., 3 x width) in ``shards`` parts of (q, v, k) -> the same in the four parts that transformers expects."""
    width = qkv.shape[-1] // 3
    parts = qkv.reshape(*qkv.shape[:-1], shards, 3, width // shards)
    whole = parts.transpose(-3, -2).reshape(*qkv.shape[:-1], 3, TRANSFORMERS, width // TRANSFORMERS)
    return torch.flatten(whole.transpose(-3, -2), start_dim=-3)
