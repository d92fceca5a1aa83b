"""L4, behaviour: greedy text, cache, padding, and equal results of two runs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from golden.evidence.continuation import CLEAR, Continuation
from golden.evidence.error_meter import ErrorMeter
from golden.evidence.extremes import without_extremes
from golden.evidence.live import Evidence
from golden.levels.function import Budget
from golden.models.loading import silenced
from golden.models.running import ModelRunner
from golden.verdict import LevelResult, Status
from golden.watching import Progress

TOKENS, PREFILL, SHORT = 28, 20, 13
"""Tokens of the row that is decoded, tokens of its prefill, and tokens of the short row that is padded."""


def judge_behaviour(
    candidate: ModelRunner, evidence: Evidence, budget: Budget, progress: Progress | None = None
) -> LevelResult:
    """Four checks, each in the precision of L2; the number is how many failed.

    Text is compared as far as the reference's margins are clear. Where rotary frequencies depend on the length, a cache
    gives another function by design, so only full passes are compared; also where a model says that it has no cache.
    """
    if candidate.loaded.problems:
        return LevelResult("L4", Status.FAIL, None, 0.0, "the candidate is not a complete model, see L2")
    continuation = evidence.continuation()
    row = (max(evidence.prompts, key=lambda prompt: len(prompt.ids)).ids * TOKENS)[:TOKENS]
    checks: dict[str, Callable[[], str]] = {
        "two runs": lambda: _repeats(candidate, row),
        "greedy text": lambda: _same_text(candidate, continuation, budget),
    }
    notes = []
    if continuation.fresh:
        notes.append("cache and padding were not compared: rope depends on the length")
    else:
        checks["padding"] = lambda: _padded_is_single(candidate, row, budget)
    if not getattr(candidate.model, "supports_cache", True):
        notes.append("no cache was compared: the model has none")
    elif not continuation.fresh:
        checks["cache"] = lambda: _cache_is_full_pass(candidate, row, budget)
    failures = []
    for k, (name, check) in enumerate(checks.items()):
        if progress is not None:
            progress(f"behaviour: {name}", k, len(checks))
        if failure := _attempt(check):
            failures.append(f"{name}: {failure}")
    status = Status.FAIL if failures else Status.PASS
    clear = continuation.clear_steps(_clear(budget))
    measures = {"checks": float(len(checks)), "greedy_tokens": float(clear)}
    return LevelResult("L4", status, float(len(failures)), 0.0, "; ".join(failures + notes), True, (), measures)


def _attempt(check: Callable[[], str]) -> str:
    """What a check found wrong, empty if nothing. A crash counts as wrong."""
    try:
        return check()
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as broken:
        return f"{type(broken).__name__}: {broken}"


def _clear(budget: Budget) -> float:
    """Smallest margin at which choices must agree: far above the error that the budget allows."""
    return max(CLEAR, 100.0 * budget.rms)


def _repeats(candidate: ModelRunner, row: tuple[int, ...]) -> str:
    first, again = candidate.logits(row), candidate.logits(row)
    return "" if torch.equal(first, again) else f"their logits differ by {float((first - again).abs().max()):.3g}"


def _same_text(candidate: ModelRunner, expected: Continuation, budget: Budget) -> str:
    written = _generate(candidate, expected.prompt, len(expected.ids), use_cache=not expected.fresh)
    steps = expected.clear_steps(_clear(budget))
    for step, (found, true) in enumerate(zip(written[:steps], expected.ids[:steps], strict=False)):
        if found != true:
            margin = expected.margins[step]
            return f"token {step + 1} is {found}, the reference has {true} with a margin of {margin:.3g} std"
    return "" if len(written) >= steps else f"stops after {len(written)} of {steps} tokens"


def _generate(candidate: ModelRunner, prompt: tuple[int, ...], steps: int, *, use_cache: bool) -> list[int]:
    """As many greedy ids after the prompt by the model's own ``generate``, without its generation_config.json.

    transformers takes settings that a call does not give from the model (end of text, penalties). So the model gets
    other settings for this call.
    """
    from transformers import GenerationConfig

    candidate.forget()
    batch, own = candidate.batch(prompt), candidate.model.generation_config
    candidate.model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=steps, use_cache=use_cache, pad_token_id=0
    )
    try:
        with torch.no_grad(), silenced(), candidate.lifting():
            output = candidate.model.generate(batch, attention_mask=torch.ones_like(batch))
    finally:
        candidate.model.generation_config = own
    ids: list[int] = output[0, batch.shape[1] :].tolist()
    return ids


def _cache_is_full_pass(candidate: ModelRunner, row: tuple[int, ...], budget: Budget) -> str:
    """Prefill, then a chunk of several tokens, then one token at a time, against one full pass."""
    full = candidate.logits(row)  # (tokens, vocab)
    cuts = [0, PREFILL, PREFILL + 4, *range(PREFILL + 5, TOKENS + 1)]
    cache, parts = None, []
    for start, stop in pairwise(cuts):
        output = candidate.forward(input_ids=candidate.batch(row[start:stop]), past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        parts.append(output.logits[0])
    return _difference("decoding on a cache", torch.cat(parts), full, budget)


def _padded_is_single(candidate: ModelRunner, row: tuple[int, ...], budget: Budget) -> str:
    """A short row beside a long one, padded on either side, against the short row alone."""
    single = candidate.logits(row[:SHORT])  # (SHORT, vocab)
    padding = [row[-1]] * (TOKENS - SHORT)
    for side in ("left", "right"):
        left = side == "left"
        short = [*padding, *row[:SHORT]] if left else [*row[:SHORT], *padding]
        ids = torch.tensor([short, list(row)], device=candidate.loaded.device)  # (2, TOKENS)
        mask = torch.ones_like(ids)
        kept = slice(TOKENS - SHORT, None) if left else slice(0, SHORT)
        mask[0] = 0
        mask[0, kept] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        output = candidate.forward(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        if failure := _difference(f"padding on the {side}", output.logits[0, kept], single, budget):
            return failure
    return ""


def _difference(what: str, found: Tensor, expected: Tensor, budget: Budget) -> str:
    meter = ErrorMeter()
    meter.add(what, *without_extremes(found, expected))
    total = meter.total()
    return "" if budget.keeps(total) else f"{what}: rms {total.rms:.3g}, max {total.max:.3g} of the logits' std"
