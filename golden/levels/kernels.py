"""L3, kernels: the candidate's error in bfloat16 and float16 is compared with the floor, the reference's own error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golden.errors import MissingDeviceError, UnknownLevelError
from golden.evidence.calibration import LOW_PRECISION, Calibration, Floor, measure_floor
from golden.evidence.live import Evidence
from golden.evidence.probes import error_against_twin, error_of, run_probe
from golden.evidence.stages import diagnosis_prompt
from golden.models.folders import read_config
from golden.models.loading import FLASH, load_model
from golden.models.modules import chooses_experts
from golden.models.obstacles import obstacle
from golden.models.precision import depends_on_length
from golden.models.running import ModelRunner
from golden.verdict import LevelResult, Reading, Status
from golden.watching import Progress
from golden.wording import label_of, times

RMS_RATIO, MAX_RATIO, PROBE_RATIO = 1.5, 3.0, 1.5
"""Largest allowed ratios of the candidate's error to the floor (attention facts, 6; for max, flash-attn's own)."""
KL_RATIO, KL_LEAST = 2.0, 1e-4
CACHE, TWIN = "decoding on a cache", "activation"
COMPARED_WITH = {CACHE: "the error of a full pass", TWIN: "its error against the other GELU"}
"""Measures that are not compared with the floor."""
CHOICES = "modules alone, and no logits: rounding changes which experts a token uses, in the reference too"


@dataclass(frozen=True)
class _Run:
    """The result of one dtype; ``obstacle`` says why there is none, ``refused`` why no model of the kind has one,
    ``note`` what was left out."""

    attention: str = ""
    ratios: Mapping[str, float] = field(default_factory=dict)
    readings: tuple[Reading, ...] = ()
    failures: tuple[str, ...] = ()
    obstacle: str | None = None
    refused: str | None = None
    note: str = ""

    @property
    def reason(self) -> str | None:
        """Why there are no numbers."""
        return f"not run: {self.refused}" if self.refused else self.obstacle


def judge_kernels(
    candidate: Path,
    evidence: Evidence,
    dtypes: Sequence[str],
    attn: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> LevelResult:
    """Load the candidate in each dtype with one attention backend and compare errors with the reference's own.

    Without ``attn`` it is the model's default: sdpa, or eager where a model has no other.
    The number is the worst ratio of rms errors, over logits and probes. A dtype that the model itself excludes is named
    and not run; where that is so of every dtype asked for, the level is NOT RUN.

    Raises:
        MissingDeviceError: the device or the backend is not on this machine.
    """
    check_device(device)
    name = "L3 flash" if attn == FLASH else "L3"
    runs = {}
    for k, dtype in enumerate(dtypes):
        if progress is not None:
            progress(f"kernels: {dtype}", k, len(dtypes))
        runs[dtype] = _run(candidate, evidence, dtype, attn, device)
    notes = [f"{dtype}: {run.reason}" for dtype, run in runs.items() if run.reason]
    if all(run.refused for run in runs.values()):
        return LevelResult(name, Status.NOT_RUN, detail="; ".join(notes), required=False)
    if len(notes) == len(runs):
        return LevelResult(name, Status.UNVERIFIED, detail="; ".join(notes))
    failures = [f"{dtype}: {text}" for dtype, run in runs.items() for text in run.failures]
    measures: dict[str, float | str] = {"attention": next(run.attention for run in runs.values() if not run.reason)}
    measures |= {f"{dtype} {key}": value for dtype, run in runs.items() for key, value in run.ratios.items()}
    errors = [value for run in runs.values() for key, value in run.ratios.items() if key not in ("max", "kl")]
    return LevelResult(
        name=name,
        status=Status.FAIL if failures else Status.PASS,
        number=max(errors, default=None),
        budget=RMS_RATIO,
        detail="; ".join(failures + notes + sorted({run.note for run in runs.values() if run.note})),
        readings=tuple(reading for run in runs.values() for reading in run.readings),
        measures=measures,
    )


def _run(candidate: Path, evidence: Evidence, dtype: str, attn: str | None, device: str) -> _Run:
    if reason := refusal(read_config(candidate), evidence.config, dtype, attn):
        return _Run(refused=reason)
    calibration = evidence.calibration(dtype)
    if not math.isfinite(calibration.floor.rms):
        return _Run(obstacle="the reference itself is not finite, so there is nothing to compare with")
    runner = ModelRunner(load_model(candidate, LOW_PRECISION[dtype], attn, device))
    attention = str(runner.model.config._attn_implementation)
    if runner.loaded.problems:
        return _Run(attention, failures=("the candidate is not a complete model, see L2",))
    try:
        ratios = probe_ratios(runner, calibration)
        if chooses_experts(runner.model):
            return _Run(
                attention, ratios, (), tuple(excesses(ratios, calibration.floor, calibration.floor)), note=CHOICES
            )
        floor, found = measure_floor(runner, evidence, calibration.prompts)
        ratios = _ratios(floor, calibration.floor) | ratios | cache_ratio(runner, evidence)
    except (RuntimeError, ValueError, IndexError, TypeError, ImportError) as broken:
        if attn == FLASH:
            raise MissingDeviceError(f"{candidate}: flash attention cannot run this model: {broken}") from broken
        return _Run(attention, failures=(f"the candidate cannot run: {type(broken).__name__}: {broken}",))
    readings = tuple(replace(reading, name=f"{reading.name} in {dtype}") for reading in found)
    return _Run(attention, ratios, readings, tuple(excesses(ratios, floor, calibration.floor)))


def refusal(
    candidate: Mapping[str, Any], reference: Mapping[str, Any], dtype: str, attn: str | None = None
) -> str | None:
    """Why one of two models, by their configs, cannot run in a low precision; the reference runs eager attention."""
    kind = LOW_PRECISION[dtype]
    return obstacle(candidate, kind, attn) or obstacle(reference, kind, "eager")


def check_device(device: str) -> None:
    """Check that torch can compute on a device.

    Raises:
        UnknownLevelError: there is no such kind of device.
        MissingDeviceError: it is not on this machine.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as unknown:
        raise UnknownLevelError(f"device {device!r} is not known to torch; give cpu or cuda") from unknown
    try:
        float(torch.ones(1, device=device).sum())
    except (RuntimeError, AssertionError) as missing:
        what = "no GPU" if kind == "cuda" else f"no {kind}"
        raise MissingDeviceError(
            f"device {device!r}: torch sees {what} of that name on this machine; run without --device"
        ) from missing


def _ratios(found: Floor, own: Floor) -> dict[str, float]:
    return {"rms": _over(found.rms, own.rms), "max": _over(found.max, own.max), "kl": _over(found.kl, own.kl)}


def _over(found: float, own: float) -> float:
    """found / own; two zeros are equal."""
    if own > 0.0:
        return found / own
    return 1.0 if found == 0.0 else math.inf


def probe_ratios(runner: ModelRunner, calibration: Calibration) -> dict[str, float]:
    """Error of the candidate over the reference's own, for every probe whose module the candidate has.

    A GELU has a second ratio: its error over its error against the other GELU, below one for the right GELU.
    """
    ratios = {}
    for probe in calibration.probes:
        found = run_probe(runner, probe.role, probe.given)
        if found is None:
            continue
        error = error_of(found, probe.truth)
        ratios[probe.name] = _over(error, probe.own)
        twin = error_against_twin(probe, found)
        if twin is not None:
            ratios[TWIN] = _over(error, twin)
    return ratios


def cache_ratio(runner: ModelRunner, evidence: Evidence) -> dict[str, float]:
    """Error of a prompt's second half decoded on a cache, over that of the same positions in one full pass.

    The second half is a chunk of several queries after more keys, then two single queries. A kernel that aligns its
    masks to the wrong end is right in full passes and wrong here. Empty for models without a cache, or whose rope
    depends on the length.
    """
    index = diagnosis_prompt(evidence.prompts)
    ids = evidence.prompts[index].ids
    start = len(ids) // 2
    if depends_on_length(runner.model) or start < 4:
        return {}
    full = runner.logits(ids).to("cpu", torch.float64)  # (tokens, vocab)
    decoded = _decoded(runner, ids, start)
    if decoded is None:
        return {}
    errors = []
    for logits in (torch.cat((full[:start], decoded)), full):
        found, true = evidence.pair(index, logits)
        errors.append(error_of(found[start:], true[start:]))
    return {CACHE: _over(*errors)}


def _decoded(runner: ModelRunner, ids: Sequence[int], start: int) -> Tensor | None:
    """Logits (tokens - start, vocab) from ``start`` on by way of a cache, float64 on the CPU; None without a cache."""
    cache, parts = None, []
    for begin, stop in pairwise((0, start, len(ids) - 2, len(ids) - 1, len(ids))):
        output = runner.forward(input_ids=runner.batch(ids[begin:stop]), past_key_values=cache, use_cache=True)
        cache = getattr(output, "past_key_values", None)
        if cache is None:
            return None
        parts.append(output.logits[0].to("cpu", torch.float64))
    return torch.cat(parts[1:])


def excesses(ratios: dict[str, float], found: Floor, own: Floor) -> Iterator[str]:
    """A sentence for each measure that is over its budget."""
    limits = {"rms": RMS_RATIO, "max": MAX_RATIO}
    for name, ratio in ratios.items():
        if name == "kl":
            if not found.kl <= max(KL_LEAST, KL_RATIO * own.kl):
                yield f"{label_of(name)}: {found.kl:.3g} nats, {times(ratio)} the reference's own, 2 x allowed"
        elif not ratio <= limits.get(name, PROBE_RATIO):
            compared = COMPARED_WITH.get(name, "the reference's own rounding error")
            yield f"{label_of(name)}: {times(ratio)} {compared}, {limits.get(name, PROBE_RATIO):g} x allowed"
