"""What every form of a report says, read from the JSON of a verdict; names from files are made fit to print."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from golden.wording import besides, faults, headline, summary

Facts = Mapping[str, Any]
STATUSES = ("PASS", "FAIL", "UNVERIFIED", "NOT RUN")
MARKS = {"PASS": "✓", "FAIL": "✗", "UNVERIFIED": "?", "NOT RUN": "–"}
MEANINGS = {
    "L0": "Structure: keys, shapes, config, tokenizer and generation settings are all accounted for.",
    "L1": "Weights: every tensor, taken through the mapping, is bitwise equal.",
    "L2": "Function: both models run the same prompts in wide precision on a CPU, and every embedding row is compared.",
    "L3": "Kernels: in bfloat16 and float16 the candidate rounds no worse than the reference does itself.",
    "L4": "Behaviour: greedy text, decoding on a cache and padded batches give what they should, twice the same.",
}


def clean(text: object) -> str:
    """Text in one line that every form can hold: control, format and broken characters are written as escapes."""
    return "".join(_shown(character) for character in str(text))


def _shown(character: str) -> str:
    if character in "\n\t\r":
        return " "
    return f"\\u{ord(character):04x}" if unicodedata.category(character)[0] == "C" else character


def status_of(facts: Facts, name: str = "status") -> str:
    """The status of a level or, by the name `verdict`, of a verdict; what is none of ours is UNVERIFIED."""
    status = facts.get(name)
    return str(status) if status in STATUSES else "UNVERIFIED"


def levels_of(verdict: Facts) -> list[Facts]:
    """The levels of a verdict."""
    return _dicts(verdict.get("levels"))


def meaning(level: Facts) -> str:
    """What a level means; `L3 flash` is a level L3."""
    return MEANINGS.get(str(level.get("name")).partition(" ")[0], "")


def measured(level: Facts) -> str:
    """What a level measured, in words, or why it did not."""
    return clean(headline(level))


def number(value: Any) -> str:
    """A number in few digits; empty for none."""
    return f"{value:.3g}" if isinstance(value, int | float) else ""


def told(level: Facts) -> list[str]:
    """What there is to say of a level besides: what was found, and each measurement."""
    return [clean(text) for text in besides(level)]


def sentence(verdict: Facts) -> str:
    """The verdict in a sentence."""
    text = summary(levels_of(verdict))
    return text[:1].upper() + text[1:] + "."


def places(verdict: Facts) -> Iterator[tuple[str, str]]:
    """Where the two models part, and what explains it; or why there is no verdict."""
    unsure = [level for level in levels_of(verdict) if status_of(level) == "UNVERIFIED"]
    if status_of(verdict, "verdict") == "UNVERIFIED" and unsure:
        yield "Not judged because", clean(unsure[0].get("detail") or measured(unsure[0]))
    if verdict.get("first_divergence"):
        yield "First divergence", clean(verdict["first_divergence"])
    if verdict.get("hypothesis"):
        yield "Hypothesis", clean(verdict["hypothesis"])
    for k, text in enumerate(faults(verdict), 1):
        yield f"Fault {k}", clean(text)


def about(verdict: Facts) -> Iterator[tuple[str, str]]:
    """Names and values of all else: both sides, lossy steps, device, time, versions and hashes."""
    yield "Candidate", clean(verdict.get("candidate") or "not said")
    yield "Reference", clean(verdict.get("reference") or "not said")
    for step in _dicts(verdict.get("lossy_steps")):
        yield "Lossy step", lossy(step)
    if verdict.get("device"):
        yield "Device", clean(verdict["device"])
    if isinstance(verdict.get("seconds"), int | float):
        yield "Time", f"{verdict['seconds']:.1f} s"
    if verdict.get("versions"):
        yield "Versions", clean(_pairs(verdict["versions"]))
    for side, files in (verdict.get("hashes") or {}).items():
        for name, digest in sorted(files.items()):
            yield f"sha256 ({clean(side)})", f"{clean(name)} {clean(digest)}"


def lossy(step: Facts) -> str:
    """A lossy step in a line: its name, its dtype, and the tensor that it changed most."""
    errors = step.get("max_error")
    if not isinstance(errors, Mapping) or not errors:
        return clean(", ".join(str(value) for value in step.values()))
    key = max(errors, key=lambda name: errors[name])
    return clean(f"{step.get('step')} to {step.get('dtype')}, largest error {errors[key]:.3g} in {key}")


def readings_of(level: Facts) -> list[Facts]:
    """The prompts and tables that a level read, one each."""
    return _dicts(level.get("prompts"))


def stages_of(verdict: Facts) -> tuple[list[Facts], float | None]:
    """The error after each part of the forward pass, in order, and what is allowed; empty where none was read."""
    found = verdict.get("stages") or {}
    return _dicts(found.get("readings")), found.get("budget")


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _dicts(values: Any) -> list[Facts]:
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, Sequence) else []
