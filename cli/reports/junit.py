"""A verdict as JUnit XML: a test case a level. FAIL is a failure, UNVERIFIED an error, NOT RUN is skipped."""

from collections import Counter
from xml.sax.saxutils import escape, quoteattr

from cli.reports.facts import Facts, about, clean, levels_of, measured, places, sentence, status_of, told

ELEMENTS = {"FAIL": "failure", "UNVERIFIED": "error", "NOT RUN": "skipped"}


def junit(verdict: Facts) -> str:
    """One suite, named for the candidate; so are its cases, because readers put the cases of many files in one list."""
    levels = levels_of(verdict)
    found = Counter(ELEMENTS.get(status_of(level)) for level in levels)
    name, seconds = _attribute(f"parity of {verdict.get('candidate') or 'a model'}"), _seconds(verdict)
    counts = (
        f'tests="{len(levels)}" failures="{found["failure"]}" errors="{found["error"]}" skipped="{found["skipped"]}"'
    )
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<testsuite name={name} {counts} time="{seconds}">']
    values = [("verdict", status_of(verdict, "verdict")), ("summary", sentence(verdict)), *places(verdict)]
    lines += ["  <properties>", *(_property(*pair) for pair in [*values, *about(verdict)]), "  </properties>"]
    return "\n".join([*lines, *(_case(verdict, level) for level in levels), "</testsuite>", ""])


def _case(verdict: Facts, level: Facts) -> str:
    names = _attribute(f"parity.{verdict.get('candidate') or 'a model'}"), _attribute(_name(verdict, level))
    head = f'  <testcase classname={names[0]} name={names[1]} time="{_seconds(level)}">'
    lines = [measured(level), *told(level)]
    element = ELEMENTS.get(status_of(level))
    said = _attribute("; ".join(line for line in lines[:2] if line) or status_of(level))
    inside = f"<{element} message={said}/>" if element else ""
    return f"{head}{inside}<system-out>{_text(_numbers(level), *lines)}</system-out></testcase>"


def _name(verdict: Facts, level: Facts) -> str:
    return f"{level.get('name')} {level.get('title', '')} of {verdict.get('candidate') or 'a model'}"


def _numbers(level: Facts) -> str:
    return f"{status_of(level)}, number {level.get('number')}, budget {level.get('budget')}"


def _property(name: str, value: str) -> str:
    return f"    <property name={_attribute(name)} value={_attribute(value)}/>"


def _attribute(text: object) -> str:
    return quoteattr(clean(text))


def _text(*lines: str) -> str:
    return escape("\n".join(clean(line) for line in lines if line))


def _seconds(facts: Facts) -> str:
    return f"{float(facts.get('seconds') or 0.0):.3f}"
