"""Heads and losses: from the residual stream to logits, and from logits to a number."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from mixformer.blocks.heads.causal_lm import CausalLMHead, CausalLMLoss, logprobs_from_logits
from mixformer.blocks.heads.seq_cls import SequenceClassificationHead, SequenceClassificationLoss
from mixformer.registry import class_and_keywords, takes

__all__ = [
    "HEADS",
    "LOSSES",
    "CausalLMHead",
    "CausalLMLoss",
    "SequenceClassificationHead",
    "SequenceClassificationLoss",
    "get_head",
    "get_loss",
    "logprobs_from_logits",
]

HEADS: dict[str, type[nn.Module]] = {"causal_lm": CausalLMHead, "seq_cls": SequenceClassificationHead}
LOSSES: dict[str, type[nn.Module]] = {"causal_lm": CausalLMLoss, "seq_cls": SequenceClassificationLoss}


def get_head(config: PreTrainedConfig, head_config: dict[str, Any] | None = None, path: str = "head") -> nn.Module:
    """The head that `head_config` names, None for a causal language model.

    Raises:
        ConfigurationError: for an unknown name.
        UnknownKeywordError: for a keyword that the class does not take.
    """
    head_class, keywords = class_and_keywords(HEADS, "head", head_config or {"head_cls": "causal_lm"}, path)
    return head_class(config, **keywords)


def get_loss(*args: Any, loss_config: dict[str, Any] | None = None, path: str = "loss") -> nn.Module:
    """The loss that `loss_config` names, None for a causal language model; args are the model's configuration.

    Raises:
        ConfigurationError: for an unknown name.
        UnknownKeywordError: for a keyword that the class does not take.
    """
    loss_class, keywords = class_and_keywords(LOSSES, "loss", loss_config or {"loss_cls": "causal_lm"}, path)
    return loss_class(*args, **keywords) if takes(loss_class, "config") else loss_class(**keywords)
