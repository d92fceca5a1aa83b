"""The verdict: values that can be printed, compared and written as JSON. Imports neither torch nor transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from golden.wording import level_words, summary

LEVELS: dict[str, str] = {
    "L0": "structure",
    "L1": "weights",
    "L2": "function",
    "L3": "kernels",
    "L4": "behaviour",
}


class Status(StrEnum):
    """Outcome of a level or of the whole verdict."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNVERIFIED = "UNVERIFIED"
    NOT_RUN = "NOT RUN"


@dataclass(frozen=True)
class Reading:
    """Error of one prompt (or table of rows), in units of the standard deviation of the reference's values.

    ``quartiles`` holds the rms of the first to the last quarter of the positions, ``positions`` that of up to 32 parts.
    """

    name: str
    tokens: int
    rms: float
    max: float
    quartiles: tuple[float, ...] = ()
    positions: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "tokens": self.tokens,
            "rms": finite_or_none(self.rms),
            "max": finite_or_none(self.max),
            "quartiles": [finite_or_none(value) for value in self.quartiles],
            "positions": [finite_or_none(value) for value in self.positions],
        }


@dataclass(frozen=True)
class LevelResult:
    """One level: its status, the measured number, its budget, the largest allowed number, and the seconds it took."""

    name: str
    status: Status
    number: float | None = None
    budget: float | None = None
    detail: str = ""
    required: bool = True
    readings: tuple[Reading, ...] = ()
    measures: Mapping[str, float | str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def title(self) -> str:
        """What the level looks at, in one word."""
        return LEVELS[self.name.split()[0]]

    def to_json(self) -> dict[str, Any]:
        number = None if self.number is None else finite_or_none(self.number)
        measures = {k: finite_or_none(v) if isinstance(v, float) else v for k, v in self.measures.items()}
        found = {
            "name": self.name,
            "status": str(self.status),
            "number": number,
            "budget": self.budget,
            "title": self.title,
            "detail": self.detail,
            "required": self.required,
            "prompts": [reading.to_json() for reading in self.readings],
            "measures": measures,
            "seconds": round(self.seconds, 3),
        }
        return {**found, "words": level_words(found)}


@dataclass(frozen=True)
class Explanation:
    """One difference of a failed candidate, in words.

    Attributes:
        claim: what is wrong, by layer, part and rows, or by config field.
        place: the stage of the forward pass in which it shows first: "layer 3, mlp".
        kind: ``weights`` (the files prove it), ``config``, ``function`` (found by running the model), ``missing``, or
            ``unexplained``: a difference that no hypothesis explains.
        undo: what was applied to undo it; empty where nothing was.
        proved: the model passes with this, and the other explanations before it, undone.
        rms: what is left after that, in units of the standard deviation of the reference's logits.
        note: what limits the proof, such as the precision of the stored dtype.
    """

    claim: str
    place: str
    kind: str
    undo: str = ""
    proved: bool = False
    rms: float | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**vars(self), "rms": None if self.rms is None else finite_or_none(self.rms)}


@dataclass(frozen=True)
class Verdict:
    """The result of judging a candidate; ``verdict`` follows from the levels by :func:`conclude`.

    ``first_divergence`` is where the two models part, ``explanations`` what is wrong there and later, in the order of
    the forward pass; ``hypothesis`` says the same in one sentence, None where nothing is explained.
    ``stages``: the error after each part of the forward pass, of which ``stage_budget`` is allowed. ``seconds``: how
    long judging took. ``hashes``: sha256 of the files of both sides, by side and name.
    """

    verdict: Status
    levels: tuple[LevelResult, ...]
    candidate: str = ""
    reference: str = ""
    first_divergence: str | None = None
    hypothesis: str | None = None
    explanations: tuple[Explanation, ...] = ()
    lossy_steps: tuple[Mapping[str, Any], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[str, ...] = tuple(LEVELS)
    device: str = "cpu"
    seconds: float = 0.0
    stages: tuple[Reading, ...] = ()
    stage_budget: float | None = None
    hashes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The verdict in a line: on which levels it rests, where not all were asked for, and what it took on trust."""
        only = "" if set(self.asked) >= set(LEVELS) else f" ({' and '.join(self.asked)} only)"
        return f"{self.verdict}{only}{self._on_trust()}"

    def _on_trust(self) -> str:
        """A recorded cast excuses rounded weights: which one, and how far it is from the original."""
        casts = [str(step.get("dtype")) for step in self.lossy_steps if step.get("step") == "cast"]
        found = [level.measures["distance"] for level in self.levels if "distance" in level.measures]
        if not casts or not found:
            return ""
        return f" after --dtype {casts[0]} (from conversion.json), {float(found[0]):.2g} from the original"

    def level(self, name: str) -> LevelResult:
        """The result of the level of that name; KeyError if the verdict has none."""
        for level in self.levels:
            if level.name == name:
                return level
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form; not-finite numbers become null."""
        levels = [level.to_json() for level in self.levels]
        return {
            "verdict": str(self.verdict),
            "line": self.line,
            "summary": summary(levels),
            "levels": levels,
            "first_divergence": self.first_divergence,
            "hypothesis": self.hypothesis,
            "explanations": [explanation.to_json() for explanation in self.explanations],
            "lossy_steps": [dict(step) for step in self.lossy_steps],
            "versions": dict(self.versions),
            "candidate": self.candidate,
            "reference": self.reference,
            "device": self.device,
            "seconds": round(self.seconds, 3),
            "stages": {"budget": self.stage_budget, "readings": [stage.to_json() for stage in self.stages]},
            "hashes": {side: dict(files) for side, files in self.hashes.items()},
        }


def conclude(levels: Iterable[LevelResult]) -> Status:
    """FAIL if any level failed, PASS if every required one passed, UNVERIFIED otherwise.

    At least one level must have passed: a verdict in which nothing was run is not a PASS.
    """
    results = list(levels)
    if any(level.status is Status.FAIL for level in results):
        return Status.FAIL
    required = [level for level in results if level.required]
    if required and all(level.status is Status.PASS for level in required):
        return Status.PASS
    return Status.UNVERIFIED


def finite_or_none(value: float) -> float | None:
    """The value, or None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None
