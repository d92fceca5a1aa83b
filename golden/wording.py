"""Numbers of a level in words that people can act on, and a verdict in a sentence. Both are made from its JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from converters.counts import counted

Level = Mapping[str, Any]


def level_words(level: Level) -> str:
    """What a level measured beside what is allowed, in words; empty for a level without a number."""
    name, number = str(level.get("name", "")).partition(" ")[0], level.get("number")
    if name not in _WORDS or (number is None and not (name in ("L2", "L3") and _overflows(level))):
        return ""
    return _WORDS[name](math.inf if number is None else float(number), level)


def findings(level: Level) -> list[str]:
    """The detail of a level: of one that failed each finding, of another one text."""
    detail = str(level.get("detail") or "")
    return [text for text in (detail.split("; ") if level.get("status") == "FAIL" else [detail]) if text]


def headline(level: Level) -> str:
    """What a level measured, or why it did not."""
    return level_words(level) or next(iter(findings(level)), "")


def besides(level: Level) -> list[str]:
    """What there is to say of a level beside its headline: findings, then the measurements that they do not name."""
    told = findings(level)[0 if level_words(level) else 1 :]
    return told + [f"{dtype}: {label}: {rest}" for dtype, label, rest in _unsaid(level, told)]


def faults(verdict: Mapping[str, Any]) -> list[str]:
    """Where several things are wrong: each of them, in the order of the forward pass. One alone is the hypothesis."""
    found = [one for one in verdict.get("explanations") or () if isinstance(one, Mapping)]
    texts = [_fault(one) for one in found]
    return texts if len(texts) > 1 else []


def _fault(explanation: Mapping[str, Any]) -> str:
    """A fault: its place, where its claim does not begin with that layer, the claim, and what limits its proof."""
    place, claim = str(explanation.get("place") or ""), str(explanation.get("claim"))
    note = f" ({explanation['note']})" if explanation.get("note") else ""
    said = not place or claim.startswith(place.partition(",")[0])
    return f"{claim}{note}" if said else f"{place}: {claim}{note}"


def label_of(measure: str) -> str:
    """What a measurement of L3 is called."""
    return _MEASURES.get(measure, (measure,))[0]


def summary(levels: Sequence[Level]) -> str:
    """The levels in a sentence: which failed, which could not be judged, or that all passed."""
    failed, unsure = (_named(levels, status) for status in ("FAIL", "UNVERIFIED"))
    passed = _named(levels, "PASS")
    ran = len(passed) + len(failed) + len(unsure)
    if failed:
        return f"{len(failed)} of {counted(ran, 'level')} failed: {', '.join(failed)}"
    if unsure:
        return f"{len(unsure)} of {counted(ran, 'level')} could not be judged: {', '.join(unsure)}; nothing failed"
    if not passed:
        return "no level was run"
    return f"the level that ran passed: {passed[0]}" if ran == 1 else f"all {ran} levels that ran passed"


def _unsaid(level: Level, told: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """The measurements of L3 that no finding names: dtype, what it is, and its ratio beside the limit."""
    for key, value in (level.get("measures") or {}).items():
        dtype, _, what = str(key).partition(" ")
        if what and dtype in ("bfloat16", "float16"):
            label, limit, yardstick = _MEASURES.get(what, (what, "1.5 x", ""))
            if not any(text.startswith(f"{dtype}: {label}: ") for text in told):
                yield dtype, label, f"{times(value)}{yardstick}, {limit} allowed"


def times(value: Any) -> str:
    """A ratio as people say it: `167 x`."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "not finite"
    return f"{value:,.0f} x" if value >= 99.5 else f"{value:.1f} x" if value >= 9.95 else f"{value:.2f} x"


_MEASURES: Mapping[str, tuple[str, str, str]] = {
    "rms": ("rms error of the logits", "1.5 x", ""),
    "max": ("max error of the logits", "3 x", ""),
    "kl": ("KL divergence", "2 x", ""),
    "decoding on a cache": ("decoding on a cache", "1.5 x", " the error of a full pass"),
    "activation": ("activation", "1.5 x", " its error against the other GELU"),
}
"""Measurement -> what it is called, what is allowed, and over what it is, if not the reference's own error."""


def _named(levels: Sequence[Level], status: str) -> list[str]:
    found = [level for level in levels if level.get("status") == status]
    return [f"{level.get('name')} {level.get('title', '')}".strip() for level in found]


def _overflows(level: Level) -> bool:
    """Whether a level failed on numbers that are not finite, which JSON writes as null."""
    measured = [prompt.get("rms") for prompt in level.get("prompts") or ()]
    return level.get("status") == "FAIL" and None in measured


def _structure(number: float, level: Level) -> str:
    if not number:
        return "all accounted for"
    if level.get("status") == "UNVERIFIED":
        return f"{counted(int(number), 'thing')} not judged"
    return f"{counted(int(number), 'difference')} found"


def _weights(number: float, level: Level) -> str:
    if not number:
        return "every tensor is bitwise equal"
    return f"{counted(int(number), 'tensor')} {'differs' if number == 1 else 'differ'}"


def _function(number: float, level: Level) -> str:
    measures, budget = level.get("measures") or {}, level.get("budget")
    largest, most = measures.get("max"), measures.get("max_budget")
    unit = "of the logits' std"
    if not math.isfinite(number):
        return "the error is not finite"
    if budget and number <= budget and largest and most and largest > most:
        return f"largest error {largest:.3g} {unit}, {most:.3g} allowed (rms {number:.3g}, {budget:.3g} allowed)"
    if budget and number > budget:
        return f"error {number:.3g} {unit}, {_over(number / budget)} the {budget:.3g} allowed"
    return f"error {number:.3g} {unit}" + (f", {budget:.3g} allowed" if budget else "")


def _over(ratio: float) -> str:
    return f"{ratio:.2g} x" if ratio >= 1e6 else times(ratio)


def _kernels(number: float, level: Level) -> str:
    if not math.isfinite(number):
        return "the error is not finite"
    return f"{times(number)} the reference's own rounding error, {level.get('budget') or 1.5:g} x allowed"


def _behaviour(number: float, level: Level) -> str:
    checks = (level.get("measures") or {}).get("checks")
    if number:
        return f"{int(number)} of {counted(int(checks), 'check')} failed" if checks else f"{int(number)} failed"
    return f"all {int(checks)} checks passed" if checks else "all checks passed"


_WORDS = {"L0": _structure, "L1": _weights, "L2": _function, "L3": _kernels, "L4": _behaviour}
