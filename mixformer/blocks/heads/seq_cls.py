"""The head and the loss of sequence classification."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.blocks.branches import first
from mixformer.errors import ConfigurationError, InputError
from mixformer.precision import accumulation_dtype

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


class SequenceClassificationHead(nn.Module):
    """linear(x), without a final norm. Parameters: `linear.weight` (num_labels, n_embd), `linear.bias` if asked for.

    Args:
        config: The model's configuration.
        use_bias: Whether the linear layer has a bias.
    """

    def __init__(self, config: PreTrainedConfig, use_bias: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(config.n_embd, config.num_labels, bias=use_bias)

    def forward(self, hidden_states: Tensor | tuple[Tensor, ...]) -> Tensor:
        """(B, S, n_embd), alone or as the head of a tuple, to scores of every position (B, S, num_labels)."""
        return self.linear(first(hidden_states))


class SequenceClassificationLoss(nn.Module):
    """Squared error, cross-entropy or binary cross-entropy, by `config.problem_type`.

    Raises:
        ConfigurationError: if `problem_type` is missing or unknown.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        if config.problem_type not in PROBLEM_TYPES:
            raise ConfigurationError(
                f"`problem_type` must be one of {list(PROBLEM_TYPES)}, but got {config.problem_type!r}."
            )
        self.problem_type = config.problem_type

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of logits (B, num_labels).

        Args:
            logits: (B, num_labels).
            labels: One class for each row, (B,) or (B, 1), for a single label; else one number for each logit,
                (B, num_labels), or as many in one row: (B,) for num_labels = 1.

        Raises:
            InputError: for any other number of labels.
        """
        logits = logits.to(accumulation_dtype(logits.dtype))
        single = self.problem_type == "single_label_classification"
        shape = logits.shape[:1] if single else logits.shape
        flat_or_column = (*shape, 1) if single else (shape.numel(),)
        if labels.shape not in (shape, flat_or_column):
            raise InputError(f"labels must be {tuple(shape)} for {self.problem_type}, but got {tuple(labels.shape)}.")
        labels = labels.to(logits.device).reshape(shape)
        if single:
            return F.cross_entropy(logits, labels)
        loss = F.mse_loss if self.problem_type == "regression" else F.binary_cross_entropy_with_logits
        return loss(logits, labels.to(logits.dtype))
