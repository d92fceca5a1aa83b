"""Greedy text of the reference, with the margin of each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from golden.evidence.prompts import Prompt, context_of
from golden.models.precision import depends_on_length
from golden.models.running import ModelRunner

PROMPT_TOKENS, STEPS = 32, 16
CLEAR = 1e-6
"""From this margin on, in units of the logits' standard deviation, two equal float64 models choose the same token."""


@dataclass(frozen=True)
class Continuation:
    """The ids that the reference generates after a prompt.

    ``margins`` are the distances between the best and the second-best logit at each step, over the standard deviation
    of the step's logits. ``fresh``: every step is a full pass, without a cache. Where rotary frequencies depend on the
    length, a cache holds keys of other frequencies, so that the text with a cache is another text.
    """

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    margins: tuple[float, ...]
    fresh: bool

    def clear_steps(self, smallest: float) -> int:
        """Number of steps before the first one whose margin is below ``smallest``."""
        return next((i for i, margin in enumerate(self.margins) if margin < smallest), len(self.margins))


def continue_greedily(runner: ModelRunner, prompts: Sequence[Prompt], vocab: int) -> Continuation:
    """Let the reference continue the first prompt, with ids below ``vocab`` only, within its context."""
    context = context_of(runner.model.config)
    start = prompts[0].ids[: max(1, min(PROMPT_TOKENS, context - STEPS))]
    fresh = depends_on_length(runner.model)
    ids, margins = list(start), []
    cache = None
    for _ in range(min(STEPS, context - len(start))):
        if fresh:
            logits = runner.logits(ids)[-1, :vocab]  # (vocab,)
        else:
            batch = runner.batch(ids if cache is None else ids[-1:])
            output = runner.forward(input_ids=batch, past_key_values=cache, use_cache=True)
            cache, logits = getattr(output, "past_key_values", None), output.logits[0, -1, :vocab]
        margins.append(_margin(logits))
        ids.append(int(logits.argmax()))
    return Continuation(start, tuple(ids[len(start) :]), tuple(margins), fresh)


def _margin(logits: Tensor) -> float:
    if len(logits) < 2:
        return 0.0  # nothing is chosen
    best, second = torch.topk(logits.double(), 2).values
    return float((best - second) / logits.double().std())
