"""The head and the loss of a causal language model."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixformer.blocks.branches import first
from mixformer.blocks.heads.cross_entropy import token_losses
from mixformer.blocks.heads.final_norm import final_norm
from mixformer.blocks.learned_scale import LearnedScale, scale_spec
from mixformer.blocks.unit_linear import ROWS, linear_as_asked
from mixformer.errors import InputError, invalid
from mixformer.precision import accumulation_dtype, floating_dtype, in_own_dtype

REDUCTIONS = ("mean", "sum", "none")


class CausalLMHead(nn.Module):
    """linear(ln(x)). Parameters: `ln.*`, `linear.weight` (vocab_size, n_embd), `linear.bias` (vocab_size,).

    Args:
        config: The model's configuration.
        dtype: Name of the dtype of the linear layer and of the logits, by default torch's. A tied head has that of the
            embedding.
        use_bias: Whether the linear layer has a bias.
        use_norm: Ours. False for no norm.
        logit_scale: Ours. Scale of the logits, see `ScaleSpec`; adds `logit_scale.weight` (vocab_size,).
        logit_multiplier: Ours. A constant that logits are multiplied by.
        logit_softcap: Ours. After that, bound logits as c * tanh(logit / c), 0 for none.
        unit_weights: Ours. The rows of the linear layer have length 1 when they are used.
    """

    keep_in_fp32 = ("logit_scale",)

    def __init__(
        self,
        config: PreTrainedConfig,
        dtype: str | torch.dtype | None = None,
        use_bias: bool = True,
        *,
        use_norm: bool = True,
        logit_scale: dict[str, Any] | None = None,
        logit_multiplier: float = 1.0,
        logit_softcap: float = 0.0,
        unit_weights: bool = False,
    ) -> None:
        super().__init__()
        self.ln = final_norm(config) if use_norm else nn.Identity()
        if logit_softcap < 0:
            raise invalid("head.logit_softcap", logit_softcap, "a number >= 0")
        self.logit_multiplier, self.logit_softcap = float(logit_multiplier), float(logit_softcap)
        own = floating_dtype(dtype, "head")
        self.dtype = None if config.tie_word_embeddings else own
        linear = nn.Linear(config.n_embd, config.vocab_size, bias=use_bias, dtype=self.dtype)
        self.unit_weights = unit_weights
        self.linear = linear_as_asked(linear, unit_weights, ROWS)
        scaled = logit_scale is not None
        self.logit_scale = (
            LearnedScale(config.vocab_size, scale_spec(logit_scale, "head.logit_scale")) if scaled else None
        )

    def forward(self, hidden_states: Tensor | tuple[Tensor, ...]) -> Tensor:
        """(B, S, n_embd), alone or as the head of a tuple, to logits (B, S, vocab_size) in the linear layer's dtype."""
        x = self.ln(first(hidden_states))
        logits: Tensor = self.linear(in_own_dtype(x, self.linear.weight, self.dtype))
        logits = logits if self.logit_scale is None else self.logit_scale(logits)
        return bounded(logits, self.logit_multiplier, self.logit_softcap)


def bounded(logits: Tensor, multiplier: float, softcap: float) -> Tensor:
    """c * tanh(multiplier * logits / c), computed in the accumulation dtype and rounded once; c = 0 for no bound."""
    if multiplier == 1.0 and not softcap:
        return logits
    wide = logits.to(accumulation_dtype(logits.dtype)) * multiplier
    wide = softcap * torch.tanh(wide / softcap) if softcap else wide
    return wide.to(logits.dtype)


class CausalLMLoss(nn.Module):
    """Cross-entropy of each token given those before it, in float32 at least.

    Args:
        shift_labels: Compare logits at i with the label at i + 1; off if the labels are shifted already.
        ignore_index: Label that does not count.
        reduction: "mean", "sum" or "none".
        flash_cross_entropy_loss, inplace_backward: Choices of kernel in the SDK; the function is the same without.

    Raises:
        ConfigurationError: for an unknown reduction.
    """

    def __init__(
        self,
        shift_labels: bool = True,
        ignore_index: int = -100,
        reduction: str = "mean",
        flash_cross_entropy_loss: bool = False,
        inplace_backward: bool = False,
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise invalid("loss.reduction", reduction, f"one of {list(REDUCTIONS)}")
        self.shift_labels = shift_labels
        self.ignore_index = ignore_index
        self.reduction = reduction

    def forward(self, logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """The loss.

        Args:
            logits: (B, S, V), or (S, V).
            labels: (B, S) integers, or as many in one row.
            num_items_in_batch: Labels in all micro-batches of a step; the sum is divided by it instead of by the
                labels here, so that gradient accumulation equals one large batch.

        Returns:
            A scalar, or (B * S,) for reduction "none" (S - 1 per row if shifted).

        Raises:
            InputError: unless there is one label for each position of the logits.
        """
        positions = logits.shape[:-1]
        if labels.shape not in (positions, (positions.numel(),)):
            raise InputError(
                f"labels must have one entry per position of the logits, {tuple(positions)}, but got shape "
                f"{tuple(labels.shape)}: with labels, leave logits_to_keep at 0."
            )
        labels = labels.reshape(positions)
        if self.shift_labels:
            # The labels move, not the logits: a slice of the logits would be copied, here and in the backward pass.
            labels = F.pad(labels[..., 1:], (0, 1), value=self.ignore_index)
        labels = labels.to(logits.device, torch.long)
        rows = logits.reshape(-1, logits.shape[-1])  # (B * S, V)
        losses = token_losses(rows, labels.flatten(), self.ignore_index).view_as(labels)  # (B, S)
        if self.reduction == "none":
            return (losses[..., :-1] if self.shift_labels else losses).flatten()
        if self.reduction == "sum":
            return losses.sum()
        count = (labels != self.ignore_index).sum() if num_items_in_batch is None else num_items_in_batch
        return losses.sum() / (count.to(losses.device) if isinstance(count, Tensor) else count)


def logprobs_from_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """log softmax(logits)[label]: logits (..., V) and labels (...) to (...), in float32 at least.

    Nothing is shifted: labels[i] is the token whose probability logits[i] gives; where it is -100, the result is 0.
    """
    losses = token_losses(logits.reshape(-1, logits.shape[-1]), labels.flatten(), ignore_index=-100)
    return -losses.view(labels.shape)
