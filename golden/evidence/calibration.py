"""The floor: the reference's own rounding error in bfloat16 and float16. L3 compares the candidate's error with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golden.evidence.error_meter import ErrorMeter
from golden.evidence.extremes import without_extremes
from golden.evidence.probes import Probe, make_probes
from golden.evidence.prompts import Prompt, longest_prompt
from golden.evidence.ruler import Truth
from golden.models.running import ModelRunner
from golden.models.streamed_loading import open_whole
from golden.verdict import Reading

LOW_PRECISION = {"bfloat16": torch.bfloat16, "float16": torch.float16}
PROMPTS = 2
"""Number of prompts of a low-precision run."""


@dataclass(frozen=True)
class Floor:
    """Error of a low-precision run against float64: rms and max in units of the logits' standard deviation,
    and the mean Kullback-Leibler divergence over the positions, in nats."""

    rms: float
    max: float
    kl: float


@dataclass(frozen=True)
class Calibration:
    """The floor of one dtype, the prompts it was measured on, and the probes of single modules."""

    dtype: str
    floor: Floor
    prompts: tuple[int, ...]
    probes: tuple[Probe, ...]


def chosen_prompts(prompts: Sequence[Prompt]) -> tuple[int, ...]:
    """Indices of the prompts for low-precision runs: the random one, then text, then the longest."""
    order = sorted(
        range(len(prompts)),
        key=lambda i: (prompts[i].name != "random", prompts[i].text is None, -len(prompts[i].ids), i),
    )
    return tuple(order[:PROMPTS])


def measure_floor(runner: ModelRunner, truth: Truth, indices: Sequence[int]) -> tuple[Floor, tuple[Reading, ...]]:
    """Run a low-precision model on some prompts and measure its error against the true logits."""
    meter, divergences = ErrorMeter(), []
    for index in indices:
        prompt = truth.prompts[index]
        logits = runner.logits(prompt.ids).to("cpu", torch.float64)  # (tokens, vocab)
        found, true = truth.pair(index, logits)
        meter.add(prompt.name, *without_extremes(found, true))
        divergences.append(truth.divergence(found, true))
    total = meter.total("all", truth.std)
    kl = float(torch.cat(divergences).mean())
    return Floor(total.rms, total.max, kl), meter.readings(truth.std)


def calibrate(
    folder: Path, dtype: str, truth: Truth, exact: ModelRunner, rounded_to: torch.dtype | None = None
) -> Calibration:
    """Load the reference in a low precision, with eager attention, and measure its rounding error.

    Args:
        exact: the reference in float64, which gives the true outputs of the probes.
        rounded_to: the dtype that the weights of ``exact`` were rounded through.
    """
    own = ModelRunner(open_whole(folder, LOW_PRECISION[dtype], "eager"))
    if rounded_to is not None:
        own.loaded.round_through(rounded_to)
    indices = chosen_prompts(truth.prompts)
    floor, _ = measure_floor(own, truth, indices)
    return Calibration(dtype, floor, indices, make_probes(exact, own, LOW_PRECISION[dtype]))


def divergence(truth: Tensor, found: Tensor) -> Tensor:
    """KL(softmax(truth) || softmax(found)) at each position, in nats, (tokens,), from logits (tokens, vocab)."""
    expected, actual = truth.double().log_softmax(-1), found.double().log_softmax(-1)
    return (expected.exp() * (expected - actual)).sum(-1)


def to_json(calibration: Calibration) -> dict[str, Any]:
    """The numbers of a calibration, without its probes."""
    floor = calibration.floor
    return {"rms": floor.rms, "max": floor.max, "kl": floor.kl, "prompts": list(calibration.prompts)}


def attention_spread(runner: ModelRunner, prompts: Sequence[Prompt]) -> float:
    """Relative rms between eager and sdpa attention of one model on its longest prompt; 0 where it has no sdpa."""
    if not has_sdpa(runner):
        return 0.0
    ids = prompts[longest_prompt(prompts)].ids
    with runner.attention("sdpa"):
        other = runner.logits(ids)
    return spread_between(other, runner.logits(ids))


def has_sdpa(runner: ModelRunner) -> bool:
    """Whether the model can run with sdpa attention."""
    try:
        with runner.attention("sdpa"):
            return True
    except ValueError:
        return False


def spread_between(found: Tensor, true: Tensor) -> float:
    """Relative rms between two arrays of logits (tokens, vocab) of one model."""
    meter = ErrorMeter()
    meter.add("spread", *without_extremes(found, true))
    return meter.total().rms
