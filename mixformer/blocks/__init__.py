"""Blocks: what stands between the embedding and the head, and how a configuration becomes a list of them."""

from __future__ import annotations

import copy
import logging
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from mixformer.architecture import DEFAULT_BLOCK as DEFAULT_BLOCK_CONFIG
from mixformer.architecture import SUB_DICTS, TASK_DICTS, block_path, normal_form
from mixformer.blocks.branches import with_cache_support
from mixformer.blocks.ngpt import NGPTBlock
from mixformer.blocks.parallel import ParallelBlock
from mixformer.blocks.parallel_two_norms import ParallelTwoNormsBlock
from mixformer.blocks.residual import ResidualBlock
from mixformer.blocks.sequential import SequentialBlock
from mixformer.registry import check_keywords, check_types, look_up, takes, takes_any_keyword

logger = logging.getLogger(__name__)

DEFAULT_BLOCK = DEFAULT_BLOCK_CONFIG["block_cls"]

BLOCKS: dict[str, type[nn.Module]] = {
    "parallel": ParallelBlock,
    "sequential": SequentialBlock,
    "ngpt": NGPTBlock,  # ours
    "residual": ResidualBlock,  # ours
    "parallel_two_norms": ParallelTwoNormsBlock,  # ours
}


def get_block(config: PreTrainedConfig, block_config: dict[str, Any] | list[Any] | None = None) -> list[nn.Module]:
    """The blocks of a model, in order.

    Args:
        config: The model's configuration. Its `n_layer` is set to the length of a list.
        block_config: An architecture: a dict for `config.n_layer` blocks alike, or a list with one dict per block.

    Raises:
        ConfigurationError: for unknown names and contradicting sizes.
        UnknownKeywordError: for keywords that the classes do not take.
    """
    architecture = normal_form(block_config, {"norm_cls": "torch", "eps": config.layer_norm_epsilon})
    if isinstance(architecture, dict):
        return [_block(config, architecture, i, "architecture") for i in range(config.n_layer)]
    if len(architecture) != config.n_layer:
        logger.warning(
            "`config.n_layer` does not match number of blocks in `block_config`. Overriding %d with %d.",
            config.n_layer,
            len(architecture),
        )
        config.n_layer = len(architecture)
    return [_block(config, item, i, block_path(architecture, i)) for i, item in enumerate(architecture)]


def _block(config: PreTrainedConfig, entry: dict[str, Any], block_idx: int, path: str) -> nn.Module:
    """One block. Sub-dicts that a custom block does not ask for are left out; other unknown keys are errors."""
    keywords = copy.deepcopy(entry)
    block_class = look_up(BLOCKS, keywords.pop("block_cls"), f"{path}.block_cls")
    for key in (*SUB_DICTS, *TASK_DICTS):
        optional = key in TASK_DICTS or not takes(block_class, key)
        if optional and not (key in TASK_DICTS and takes_any_keyword(block_class)):
            keywords.pop(key, None)
    check_keywords(block_class, keywords, path)
    check_types(block_class, keywords, path)
    if takes(block_class, "block_idx"):
        keywords["block_idx"] = block_idx
    return with_cache_support(block_class(config, **keywords))
