"""Reports: all forms carry the same, and hold whatever names a verdict has."""

import errno
import html
import json
import os
import re
import xml.etree.ElementTree as ElementTree

import pytest

from cli.reports.forms import FORMS, check_reports, write_reports
from cli.reports.junit import junit
from cli.reports.markdown import markdown
from cli.reports.page import page
from converters.errors import TargetRefused, UsageError

HOSTILE = "a<b>&\"c'|d`e`*f*_g_[h](i)\x00\x1b[31m\u202e\n# j\udcff]]>--><script>alert(1)</script>~#$!\\"
SAID = [
    "FAIL", "my-candidate", "my-reference", "structure", "weights", "function", "kernels", "behaviour", "NOT RUN",
    "0.31", "1e-10", "layer 1, mlp", "gate and up are exchanged", "bfloat16", "0.015", "torch 9.8.7",
    "transformers 6.5.4", "cuda:3", "12.5", "c0ffee", "beef", "a.weight at element 3",
    "167 x the reference's own rounding error", "1.5 x allowed", "1 of 3 checks failed", "2 tensors differ",
    "cache: differs",
]  # fmt: skip


def text_of(form, verdict):
    """A report as a person reads it."""
    made = FORMS[form](verdict)
    if form == ".md":
        return re.sub(r"\\([\\`*_{}\[\]#|~!$])", r"\1", html.unescape(made))
    return html.unescape(made)


@pytest.mark.parametrize("form", [".md", ".xml", ".html"])
def test_all_forms_carry_the_same(form, fail):
    made = text_of(form, fail)
    assert [said for said in SAID if said not in made] == []


@pytest.mark.parametrize("form", [".md", ".xml", ".html"])
def test_a_form_that_leaves_something_out_would_be_noticed(form, fail):
    del fail["hashes"], fail["device"]
    assert [said for said in SAID if said not in text_of(form, fail)] == ["cuda:3", "c0ffee", "beef"]


@pytest.mark.parametrize("form", [".md", ".xml", ".html"])
def test_several_faults_are_told_one_by_one(form, fail):
    one = {"claim": "layer 1: gate and up are exchanged", "place": "layer 1, mlp", "note": "the dtype limits it"}
    other = {"claim": "eps is 1e-6, expected 1e-5", "place": "layer 2, norm 1", "note": ""}
    told = ["layer 1: gate and up are exchanged (the dtype limits it)", "layer 2, norm 1: eps is 1e-6, expected 1e-5"]
    made = text_of(form, {**fail, "explanations": [one, other]})
    assert all(text in made for text in told) and "Fault 2" in made and "mlp: layer 1" not in made
    assert "Fault 1" not in text_of(form, {**fail, "explanations": [one]})  # it is the hypothesis


def test_the_json_is_the_verdict_itself(fail):
    assert json.loads(FORMS[".json"](fail)) == fail


def test_junit_tells_failures_errors_and_what_was_skipped(fail, unverified):
    suite = ElementTree.fromstring(junit(fail))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "6",
        "4",
        "0",
        "1",
    )
    assert suite.get("time") == "12.500"
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert [child.tag for child in cases["L4 behaviour of my-candidate"]] == ["failure", "system-out"]
    assert cases["L2 function of my-candidate"].get("time") == "1.250"
    assert cases["L3 flash kernels of my-candidate"].find("skipped") is not None
    unsure = ElementTree.fromstring(junit(unverified))
    assert unsure.get("errors") == "1" and unsure.get("failures") == "0"
    assert unsure.find("testcase/error").get("message") == "the models do not fit into memory"


def test_names_of_two_candidates_do_not_meet(fail):
    names = [case.get("name") for who in ("one", "two") for case in cases_of({**fail, "candidate": who})]
    assert len(set(names)) == len(names) == 12
    same = [case.get("name") for who in ("one", "one") for case in cases_of({**fail, "candidate": who})]
    assert len(set(same)) == 6  # the control


def cases_of(verdict):
    return list(ElementTree.fromstring(junit(verdict)).iter("testcase"))


def hostile(verdict):
    """The verdict with a hostile text wherever a text of a file can stand."""
    for name in ("candidate", "reference", "first_divergence", "hypothesis", "device"):
        verdict[name] = HOSTILE
    for level in verdict["levels"]:
        level["detail"] = HOSTILE
        level["prompts"] = [{**prompt, "name": HOSTILE} for prompt in level["prompts"]]
    verdict["versions"] = {HOSTILE: HOSTILE}
    verdict["hashes"] = {"candidate": {HOSTILE: HOSTILE}}
    verdict["lossy_steps"] = [{"step": HOSTILE, "dtype": HOSTILE, "max_error": {HOSTILE: 1.0}}]
    verdict["stages"]["readings"][1]["name"] = HOSTILE
    return verdict


def test_xml_holds_any_name(fail):
    suite = ElementTree.fromstring(junit(hostile(fail)).encode())
    assert suite.get("name").startswith("parity of a<b>&\"c'|d")
    assert "\\u0000" in suite.get("name") and "\\u202e" in suite.get("name")
    with pytest.raises(ElementTree.ParseError):
        ElementTree.fromstring(f'<testsuite name="{HOSTILE}"/>'.encode(errors="replace"))  # the control


@pytest.mark.parametrize("which", ["fail", "unverified", "passed"])
def test_a_page_is_one_file_without_script_and_address(which, request, read_page):
    made = read_page(page(request.getfixturevalue(which)))
    assert made.wrong == []
    assert read_page(page(hostile(request.getfixturevalue(which)))).wrong == []


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ("<script>alert(1)</script>", "a script"),
        ('<img src="//x/y.png">', "the address //x/y.png"),
        ('<a href="https://x">x</a>', "the address https://x"),
        ('<p onclick="x()">x</p>', "the handler onclick"),
        ("<p><b>x</p></b>", "</p> closes nothing"),
        ("<p>", "<p> is never closed"),
        ("<style>@import x;</style>", "@import in the style"),
        ("<p>\x1b</p>", "a control character"),
    ],
)
def test_a_page_that_breaks_a_rule_would_be_noticed(bad, found, read_page):
    assert found in read_page(bad).wrong


def test_the_page_says_the_verdict_first_and_in_words_beside_colours(fail, read_page):
    text = " ".join(read_page("<header" + page(fail).partition("<header")[2].partition("</body>")[0]).text)
    order = [
        text.index(said) for said in ("✗", "my-candidate", "4 of 5 levels failed", "gate and up", "Levels", "torch")
    ]
    assert order == sorted(order)
    assert "prefers-color-scheme: dark" in page(fail) and "@media print" in page(fail)


def test_the_pictures_draw_every_reading_the_budget_and_the_first_divergence(fail):
    made = page(fail)
    by_layer, by_position, by_prompt = re.findall(r"<svg.*?</svg>", made, re.DOTALL)
    assert by_layer.count("<title>") == 3 and by_layer.count('class="budget"') == 1
    assert by_layer.count('class="first"') == 1 and "first: layer 1, mlp" in by_layer
    assert by_layer.count('class="over"') == 1 and by_layer.count('class="within"') == 2
    assert by_position.count("<title>") == 3 and "not finite" in by_position
    assert by_prompt.count("<title>") == 2 and by_prompt.count('class="over"') == 2
    fail["first_divergence"] = None
    assert 'class="first"' not in re.findall(r"<svg.*?</svg>", page(fail), re.DOTALL)[0]  # the control


def test_what_the_pictures_say_without_readings(passed):
    passed["stages"] = {"budget": None, "readings": []}
    assert "<svg" not in page(passed)


def test_markdown_keeps_its_table_whatever_the_names(fail):
    plain, wild = markdown(fail), markdown(hostile(fail))
    for made in (plain, wild):
        rows = [line for line in made.splitlines() if line.startswith("|")]
        assert len(rows) == 8 and all(len(re.findall(r"(?<!\\)\|", row)) == 8 for row in rows)
    assert "<script>" not in wild and "\x1b" not in wild and len(re.findall("^#", wild, re.MULTILINE)) == 1


def test_a_wild_markdown_would_be_noticed():
    row = f"| L0 | {HOSTILE} |"
    assert len(re.findall(r"(?<!\\)\|", row)) != 3


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["nowhere/a.html"], "there is no folder"),
        (["a.pdf"], "expected a name that ends in"),
        (["folder.html"], "is a folder"),
        (["a.html", "a.html"], "named twice"),
    ],
)
def test_reports_that_cannot_be_written_are_refused_before_anything_is_judged(names, sentence, tmp_path):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UsageError, match=sentence):
        check_reports([tmp_path / name for name in names])
    check_reports([tmp_path / "a.html", tmp_path / "b.xml"])


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_reports_have_mode_0644_whatever_the_umask(mask, fail, tmp_path):
    before = os.umask(mask)
    try:
        write_reports([tmp_path / f"r{form}" for form in FORMS], fail)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}
    assert len(list(tmp_path.iterdir())) == 4


def test_on_a_full_disk_the_report_that_was_there_stays(fail, tmp_path, monkeypatch):
    (tmp_path / "r.html").write_text("the old one")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TargetRefused, match="cannot be written: No space left"):
        write_reports([tmp_path / "r.html"], fail)
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    assert (tmp_path / "r.html").read_text() == "the old one"
