"""L3: do the candidate's kernels lose no more in bfloat16 and float16 than the reference's own do?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from golden.calibration import LOW_PRECISION, Calibration, Floor, measure_floor
from golden.errors import MissingDeviceError
from golden.evidence import Evidence
from golden.loading import load_model
from golden.probes import error_of, run_probe
from golden.running import ModelRunner
from golden.verdict import LevelResult, Reading, Status

RMS_RATIO, MAX_RATIO, PROBE_RATIO = 1.5, 3.0, 1.5
"""How much worse than the reference's own error a candidate may be (attention facts, 6; for max flash-attn's own)."""
KL_RATIO, KL_LEAST = 2.0, 1e-4


def judge_kernels(
    candidate: Path, evidence: Evidence, dtypes: Iterable[str], attn: str | None = None, device: str = "cpu"
) -> LevelResult:
    """Load the candidate in each dtype with one attention backend and compare errors with the reference's own.

    Without a backend given, it is the model's default: sdpa, or eager where a model has no other.
    The number is the worst ratio of rms errors, over logits and probes.

    Raises:
        MissingDeviceError: the device or the backend is not on this machine.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise MissingDeviceError(f"device {device!r}: torch sees no GPU on this machine; run without --device")
    name = "L3 flash" if attn is not None and attn.startswith("flash") else "L3"
    measures: dict[str, float | str] = {}
    failures, readings, worst = [], [], 0.0
    for dtype in dtypes:
        calibration = evidence.calibration(dtype)
        runner = ModelRunner(load_model(candidate, LOW_PRECISION[dtype], attn, device))
        measures["attention"] = str(runner.model.config._attn_implementation)
        if runner.loaded.problems:
            return LevelResult(name, Status.FAIL, None, RMS_RATIO, "the candidate is not a complete model, see L2")
        floor, per_prompt = measure_floor(runner, evidence, calibration.prompts)
        readings += [Reading(f"{r.name} in {dtype}", r.tokens, r.rms, r.max, r.quartiles) for r in per_prompt]
        ratios = _ratios(floor, calibration.floor) | probe_ratios(runner, calibration)
        failures += [f"{dtype}: {text}" for text in excesses(ratios, floor, calibration.floor)]
        worst = max(worst, *(value for name_, value in ratios.items() if name_ not in ("max", "kl")))
        measures |= {f"{dtype} {key}": value for key, value in ratios.items()}
    status = Status.FAIL if failures else Status.PASS
    return LevelResult(name, status, worst, RMS_RATIO, "; ".join(failures), True, tuple(readings), measures)


def _ratios(found: Floor, own: Floor) -> dict[str, float]:
    return {"rms": _over(found.rms, own.rms), "max": _over(found.max, own.max), "kl": _over(found.kl, own.kl)}


def _over(found: float, own: float) -> float:
    """found / own; two zeros are equal."""
    if own > 0.0:
        return found / own
    return 1.0 if found == 0.0 else math.inf


def probe_ratios(runner: ModelRunner, calibration: Calibration) -> dict[str, float]:
    """Error of the candidate over the reference's own, for every probe whose module the candidate has."""
    ratios = {}
    for probe in calibration.probes:
        found = run_probe(runner, probe.role, probe.given)
        if found is not None:
            ratios[probe.name] = _over(error_of(found, probe.truth), probe.own)
    return ratios


def excesses(ratios: dict[str, float], found: Floor, own: Floor) -> Iterator[str]:
    limits = {"rms": RMS_RATIO, "max": MAX_RATIO}
    for name, ratio in ratios.items():
        if name == "kl":
            if not found.kl <= max(KL_LEAST, KL_RATIO * own.kl):
                yield f"KL {found.kl:.3g} nats, the reference's own is {own.kl:.3g}"
        elif not ratio <= limits.get(name, PROBE_RATIO):
            what = f"{name} error of the logits" if name in limits else name
            yield f"{what}: {ratio:.3g} times the reference's own error (budget {limits.get(name, PROBE_RATIO):g})"
