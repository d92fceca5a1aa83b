"""Numbers in words that people can act on, each measurement said once, and a verdict in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from golden import LevelResult, Status
from golden.report import level_line, verdict_lines
from golden.verdict import Reading, Verdict
from golden.wording import besides, headline, summary

PASS, FAIL, UNVERIFIED, NOT_RUN = Status.PASS, Status.FAIL, Status.UNVERIFIED, Status.NOT_RUN
INF = float("inf")


def words(name: str, status: Status, number: float | None, budget: float | None = None, **more: Any) -> str:
    return headline(LevelResult(name, status, number, budget, **more).to_json())


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (words("L0", PASS, 0.0, 0.0), "all accounted for"),
        (words("L0", FAIL, 1.0, 0.0), "1 difference found"),
        (words("L0", UNVERIFIED, 2.0, 0.0), "2 things not judged"),
        (words("L1", PASS, 0.0, 0.0), "every tensor is bitwise equal"),
        (words("L1", FAIL, 2.0, 0.0), "2 tensors differ"),
        (words("L2", PASS, 2.49e-15, 1e-10), "error 2.49e-15 of the logits' std, 1e-10 allowed"),
        (words("L2", FAIL, 2e-9, 1e-10), "error 2e-09 of the logits' std, 20.0 x the 1e-10 allowed"),
        (
            words("L2", FAIL, 5e-11, 1e-10, measures={"max": 2e-9, "max_budget": 1e-9}),
            "largest error 2e-09 of the logits' std, 1e-09 allowed (rms 5e-11, 1e-10 allowed)",
        ),
        (words("L3", FAIL, 167.2, 1.5), "167 x the reference's own rounding error, 1.5 x allowed"),
        (words("L3 flash", PASS, 1.02, 1.5), "1.02 x the reference's own rounding error, 1.5 x allowed"),
        (words("L4", FAIL, 1.0, 0.0, measures={"checks": 3.0}), "1 of 3 checks failed"),
        (words("L4", PASS, 0.0, 0.0, measures={"checks": 4.0}), "all 4 checks passed"),
        (words("L3", NOT_RUN, None, None, detail="too large"), "too large"),
        (words("L2", FAIL, INF, 1e-10, readings=(Reading("a", 3, INF, 1.0),)), "the error is not finite"),
        (words("L2", FAIL, None, 1e-10, detail="rows are missing"), "rows are missing"),
    ],
)  # fmt: skip
def test_a_number_in_words(found: str, said: str) -> None:
    assert found == said


def test_each_measurement_is_one_line_and_said_once() -> None:
    measures = {"attention": "sdpa", "bfloat16 rms": 29.8, "bfloat16 max": 1.2, "float16 kl": 0.5}
    detail = "bfloat16: rms error of the logits: 29.8 x the reference's own rounding error, 1.5 x allowed"
    level = LevelResult("L3", FAIL, 29.8, 1.5, detail, measures=measures).to_json()
    assert besides(level) == [
        detail,
        "bfloat16: max error of the logits: 1.20 x, 3 x allowed",
        "float16: KL divergence: 0.50 x, 2 x allowed",
    ]
    assert len(besides({**level, "detail": "something else"})) == 4  # the control: nothing names the rms


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ([PASS, PASS], "all 2 levels that ran passed"),
        ([PASS, NOT_RUN], "the level that ran passed: L0 structure"),
        ([PASS, FAIL, NOT_RUN], "1 of 2 levels failed: L1 weights"),
        ([UNVERIFIED, PASS], "1 of 2 levels could not be judged: L0 structure; nothing failed"),
        ([UNVERIFIED, FAIL], "1 of 2 levels failed: L1 weights"),
        ([NOT_RUN], "no level was run"),
    ],
)
def test_a_verdict_in_a_sentence(statuses: list[Status], said: str) -> None:
    levels = [LevelResult(f"L{k}", status).to_json() for k, status in enumerate(statuses)]
    assert summary(levels) == said


def test_lines_fit_a_width_and_keep_words_whole() -> None:
    long = "the candidate has 250 rows of token embeddings, the reference 259: rows are missing"
    verdict = Verdict(FAIL, (LevelResult("L2", FAIL, 0.25, 1e-10, long),), "candidate", "reference", "layer 3, mlp")
    lines = verdict_lines(verdict, 60)
    assert max(map(len, lines)) <= 60
    assert long in " ".join(" ".join(lines).split())
    assert [line for line in verdict_lines(verdict) if long in line]  # unbroken without a width
    assert lines[2] == "  1 of 1 level failed: L2 function"


def test_readings_of_levels_that_passed_are_shown_where_all_are_asked_for() -> None:
    level = LevelResult("L2", PASS, 1e-15, 1e-10, readings=(Reading("english", 5, 1e-15, 2e-15),))
    verdict = Verdict(PASS, (level,), "candidate")
    assert not any("english" in line for line in verdict_lines(verdict))
    assert any("english: rms 1e-15" in line for line in verdict_lines(verdict, every=True))
    assert level_line(level).startswith("L2        function   PASS        error 1e-15")
