"""What the page of a zoo shows of each outcome: the recorded verdict, or how it ended."""

import re

import pytest

from cli.zoo.outcome import Outcome
from cli.zoo.pages import write_pages


def outcome(status, output, **more):
    return Outcome("org/model", "llama", "mixformer", output, status, 0, **more)


@pytest.fixture
def home(tmp_path, passed, monkeypatch):
    """A folder whose output `ours` records a verdict."""
    records = {"ours": {"parity": {**passed, "candidate": "ours-as-judged"}, "verdict": "PASS"}}
    monkeypatch.setattr("converters.provenance.read_record", lambda folder: records.get(folder.name, {}))
    return tmp_path


def test_each_model_has_its_page(home, read_page):
    levels = ({"name": "L2", "title": "function", "status": "FAIL", "number": 0.5, "budget": 1e-10},)
    outcomes = [
        outcome("PASS", "ours"),
        outcome("FAIL", "bad", levels=levels),
        outcome("ERROR", "none", error="config.json has no model_type <b>"),
        outcome("UNVERIFIED", "unjudged"),
    ]
    write_pages(outcomes, home, home / "pages")
    index = (home / "pages" / "index.html").read_text()
    assert read_page(index).wrong == []
    assert re.findall(r'aria-label="(\w+)"', index)[1] == "llama"
    assert index.count("parity: UNVERIFIED") == 2 and index.count("parity: FAIL") == 1
    text = " ".join(read_page(index).text)
    assert "config.json has no model_type <b>" in text and "converted and not judged" in text
    reports = [path.read_text() for path in sorted((home / "pages" / "reports").iterdir())]
    assert len(reports) == 4 and sum("ours-as-judged" in report for report in reports) == 1


def test_a_record_of_another_verdict_is_not_shown(home):
    write_pages([outcome("FAIL", "ours")], home, home / "pages")
    (report,) = (home / "pages" / "reports").iterdir()
    assert "ours-as-judged" not in report.read_text()
