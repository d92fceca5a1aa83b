"""The page of many verdicts: filters without a script, a report and a badge of each."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from cli.reports.zoo_page import zoo_page
from converters.errors import TargetRefused

WILD = "../../etc/<b>\"'|\x1b"


@pytest.fixture
def verdicts(fail, passed, unverified):
    return [
        {**passed, "name": "org/one", "family": "llama", "to": "mixformer"},
        {**fail, "name": "org/one", "family": "gpt2", "to": "mixformer"},
        {**unverified, "name": WILD, "family": WILD},
        {**passed, "family": "llama"},
    ]


@pytest.fixture
def made(verdicts, tmp_path):
    zoo_page(verdicts, tmp_path / "zoo")
    return tmp_path / "zoo"


def test_every_page_keeps_the_rules_and_every_link_leads_somewhere(made, read_page):
    pages = sorted(made.rglob("*.html"))
    assert len(pages) == 5 and all(read_page(page.read_text()).wrong == [] for page in pages)
    links = re.findall(r'(?:href|src)="([^"]+)"', (made / "index.html").read_text())
    assert len(links) == 8 and all((made / link).is_file() for link in links)
    assert {path.parent.name for path in made.rglob("*") if path.is_file()} == {"zoo", "reports", "badges"}


def test_badges_say_the_status_in_words(made):
    badges = [ElementTree.parse(path).getroot() for path in sorted((made / "badges").iterdir())]
    assert sorted(badge.get("aria-label") for badge in badges) == [
        "parity: FAIL", "parity: PASS", "parity: PASS", "parity: UNVERIFIED",
    ]  # fmt: skip


def shown(page, chosen):
    """Rows that the style sheet leaves when the radio buttons of these ids are chosen."""
    rows = re.findall(r'<tr class="(row [^"]+)">.*?<a [^>]+>(.*?)</a>', page)
    hidden = re.findall(r"#(\w+):checked ~ \.list tr\.row:not\(\.(\w+)\) \{ display: none; \}", page)
    rules = [kind for button, kind in hidden if button in chosen]
    return [name for classes, name in rows if all(kind in classes.split() for kind in rules)]


def button(page, group, label):
    (found,) = re.findall(rf'name="{group}" id="(\w+)" aria-label="{label}"', page)
    return found


def test_filters_by_family_and_status_leave_the_rows_that_fit(made):
    page = (made / "index.html").read_text()
    llama, gpt2 = button(page, "family", "llama"), button(page, "family", "gpt2")
    passed, failed = button(page, "status", "PASS"), button(page, "status", "FAIL")
    assert len(shown(page, {"f0", "s0"})) == 4
    assert shown(page, {llama, "s0"}) == ["org/one", "my-candidate"]
    assert shown(page, {gpt2, failed}) == ["org/one"]
    assert shown(page, {llama, failed}) == []
    assert len(shown(page, {"f0", passed})) == 2
    # the buttons stand before the table, else the style sheet could not reach it
    assert max(found.end() for found in re.finditer("<input", page)) < page.index('class="scroll list"')


def test_a_page_of_no_verdicts_says_so(tmp_path, read_page):
    zoo_page([], tmp_path / "zoo")
    made = read_page((tmp_path / "zoo" / "index.html").read_text())
    assert made.wrong == [] and "No model yet." in " ".join(made.text)


def test_a_folder_that_cannot_be_made_is_refused(verdicts, tmp_path):
    (tmp_path / "zoo").write_text("a file")
    with pytest.raises(TargetRefused, match="not a folder that can be written to"):
        zoo_page(verdicts, tmp_path / "zoo")
