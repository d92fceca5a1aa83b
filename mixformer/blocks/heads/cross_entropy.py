"""Cross-entropy of each token over a vocabulary, with little more memory than the logits and their gradient.

Logits are the largest tensor of a training step. Autograd keeps their log-softmax beside them, in float32, and makes
two more tensors of that size on the way back. Here a few rows at a time are widened, and the softmax is computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixformer.precision import accumulation_dtype

# Logits that are widened at a time: few enough for the caches of a CPU, enough to occupy an accelerator.
CHUNK = {"cpu": 2**20}
LARGE_CHUNK = 2**25


def token_losses(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """-log softmax(logits)[label] of each row in the accumulation dtype, 0 where the label is `ignore_index`.

    Args:
        logits: (N, V), any floating dtype.
        labels: (N,) integers below V, or `ignore_index`.
        ignore_index: Label that does not count.

    Returns:
        (N,).

    Raises:
        IndexError: for a label outside the vocabulary (on the CPU).
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return RecomputingCrossEntropy.apply(logits, labels, ignore_index)
    return _token_losses(logits, labels, ignore_index)


class RecomputingCrossEntropy(torch.autograd.Function):
    """`token_losses` that keeps only the logits for the backward pass; differentiable again, forward and backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
        """As `token_losses`."""
        return torch.cat([_token_losses(*rows, ignore_index) for rows in _chunks(logits, labels)])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        """Keep the inputs."""
        logits, labels, ctx.ignore_index = inputs
        ctx.save_for_backward(logits, labels)
        ctx.save_for_forward(logits, labels)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of the logits: (softmax - one-hot) times that of the loss."""
        logits, labels = ctx.saved_tensors
        counts = labels != ctx.ignore_index
        labels, grad = torch.where(counts, labels, 0)[:, None], torch.where(counts, grad, 0.0)[:, None]
        if torch.is_grad_enabled():  # someone will differentiate the gradient
            return _gradient(logits, labels, grad).to(logits.dtype), None, None
        found = grad.new_empty(logits.shape, dtype=logits.dtype)
        for logit_rows, label_rows, grad_rows, rows in _chunks(logits, labels, grad, found):
            rows.copy_(_gradient(logit_rows, label_rows, grad_rows))
        return found, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        """Tangent of the losses."""
        logits, labels = ctx.saved_tensors
        counts = labels != ctx.ignore_index
        labels = torch.where(counts, labels, 0)[:, None]
        softmax = _softmax(logits)
        change = (softmax * tangent).sum(-1) - tangent.gather(1, labels)[:, 0].to(softmax.dtype)
        return torch.where(counts, change, 0.0)


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of all tensors, the first of which are the logits."""
    logits = tensors[0]
    rows = max(1, CHUNK.get(logits.device.type, LARGE_CHUNK) // logits.shape[-1])
    return zip(*(x.split(rows) for x in tensors), strict=True)


def _token_losses(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    wide = logits.to(accumulation_dtype(logits.dtype))
    return F.cross_entropy(wide, labels, ignore_index=ignore_index, reduction="none")


def _softmax(logits: Tensor) -> Tensor:
    return logits.to(accumulation_dtype(logits.dtype)).softmax(-1)


def _gradient(logits: Tensor, labels: Tensor, grad: Tensor) -> Tensor:
    """(N, V) from labels and gradients of the losses, (N, 1) each."""
    return (_softmax(logits) * grad).scatter_add(1, labels, -grad)
