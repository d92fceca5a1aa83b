"""The card: ours between two marks, all other text byte for byte, and outside of the verdict."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commands import convert_sample, run, write_verdict
from huggingface_hub import ModelCard

from cli.cards.card import card, picture, write_card
from cli.cards.plot import lines_of, plot
from converters.card_marks import BEGIN, END, META_BEGIN, PICTURE, without_ours
from converters.conversion import convert
from converters.provenance import read_record
from converters.sample import write_sample
from converters.verdict_record import LEVELS, Run, obstacle, record_run

HAND_WRITTEN = {
    "none": b"",
    "text": b"# By hand\r\n\xc3\xa4 \n",
    "no newline at the end": b"# By hand",
    "metadata": b"---\nlicense: mit   # mine\ntags: [a, b]\n---\n\n# By hand\n",
    "metadata with CRLF": b"---\r\nlicense: mit\r\n---\r\n# By hand\r\n",
    "broken metadata": b"---\nlicense: [mit\n---\n\n# By hand\n",
    "a line of dashes": b"# By hand\n\n---\n\nmore\n\n---\n",
}


@pytest.fixture(autouse=True)
def place(client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return tmp_path


def judge(folder: Path, source: Path) -> None:
    """A PASS as parity writes it, with numbers by position."""
    quartiles = [1e-15, 2e-15, 3e-15, 2.5e-15]
    prompts = [{"name": "a < b", "tokens": 256, "rms": 2e-15, "max": 1e-14, "quartiles": quartiles}]
    level = {"name": "L2", "title": "function", "status": "PASS", "number": 2e-15, "budget": 1e-10, "prompts": prompts}
    flash = {"name": "L3 flash", "title": "kernels", "status": "NOT RUN", "number": None, "budget": None}
    parity = {"verdict": "PASS", "levels": [level, flash], "versions": {"torch": "2"}}
    assert record_run(folder, Run(parity, sorted(LEVELS), "cpu", source))


@pytest.fixture
def passed(sample: Path, place: Path) -> Path:
    folder = convert_sample(sample, place / "ours")
    judge(folder, sample)
    return folder


def test_a_conversion_that_is_judged_has_a_card_outside_of_its_record(place):
    write_sample(place / "tiny")
    assert run("llama", "tiny", "--to", "mixformer", "-o", "ours").code == 0
    text, record = (place / "ours" / "README.md").read_text(), read_record(place / "ours")
    assert "convert llama tiny --to mixformer" in text and f"]({PICTURE})" in text
    assert re.search(r"\| L2 \| function \| PASS \| \d", text) and "| L3 flash | kernels | NOT RUN | - | - |" in text
    assert str(place) not in text and not re.search(r"20\d\d-\d\d|\d\d:\d\d", text)
    assert {"README.md", PICTURE}.isdisjoint({*record["files"], *record["judged"]["files"]})
    ElementTree.fromstring((place / "ours" / PICTURE).read_text())
    (place / "ours" / "README.md").write_text("# Mine\n" + text)
    (place / "ours" / PICTURE).unlink()
    assert obstacle(place / "ours") is None
    assert "is up to date" in run("llama", "tiny", "--to", "mixformer", "-o", "ours").out
    back = convert(place / "ours", to="llama", output=place / "back").output
    assert not list(back.glob("*README*")) and not (back / PICTURE).exists()
    assert run("diff", "tiny", "back").code == 0


def test_equal_conversions_have_equal_cards(sample, place):
    cards = []
    for name in ("one", "other"):
        folder = convert_sample(sample, place / name)
        judge(folder, sample)
        write_card(folder, read_record(folder))
        cards.append([(folder / file).read_bytes() for file in ("README.md", PICTURE)])
    assert cards[0] == cards[1]


def test_a_card_of_the_source_that_came_home_stays(passed, place):
    back = convert(passed, to="llama", output=place / "back").output
    write_card(back, read_record(back))
    assert (back / "README.md").read_bytes() == b"# Tiny\n"


@pytest.mark.parametrize("kind", HAND_WRITTEN)
def test_what_others_wrote_stays_byte_for_byte_and_ours_is_renewed(kind, passed):
    existing, record = HAND_WRITTEN[kind], read_record(passed)
    made = card(passed, record, existing, "me/m")
    assert made.count(BEGIN) == made.count(END) == 1
    rest = without_ours(made)
    kept = rest if existing.startswith(b"---") else rest.removeprefix(b"---\n---\n\n")
    assert kept in (existing, existing + b"\n", existing + b"\n\n")
    assert card(passed, record, made, "me/m") == made
    other = card(passed, {**record, "family": "phi"}, made, "me/m")
    assert other != made and without_ours(other) == rest and b"phi" in other
    if kind == "broken metadata":
        assert META_BEGIN not in made
    else:
        assert ModelCard(made.decode()).data.to_dict()["library_name"] == "transformers"


def test_metadata_name_the_source_and_carry_its_licence_and_what_is_said_already_is_left(hub, sample, place):
    hub.upload("hub/tiny", sample)
    hub.add("hub/tiny", {"README.md": b"---\nlicense: apache-2.0\n---\n# Tiny\n", "LICENSE": b"Apache\n"})
    assert run("llama", "hub/tiny", "--to", "mixformer", "--no-parity", "-o", "ours").code == 0
    commit = hub.store.repos["hub/tiny"].heads["main"]
    made = card(Path("ours"), read_record(Path("ours")), None, "me/m").decode()
    data = ModelCard(made).data.to_dict()
    assert data["license"] == "apache-2.0" and data["base_model"] == "hub/tiny" and "llama" in data["tags"]
    assert data["base_model_relation"] == "quantized"
    assert f"convert llama hub/tiny@{commit} --to mixformer" in made and "[LICENSE](LICENSE)" in made
    made = card(Path("ours"), read_record(Path("ours")), b"---\nlicense: mit\nbase_model: a/b\n---\n", "me/m").decode()
    data = ModelCard(made).data.to_dict()
    assert (data["license"], data["base_model"], data["library_name"]) == ("mit", "a/b", "transformers")


def test_a_licence_that_nobody_named_is_not_invented(passed):
    made = card(passed, read_record(passed), None, "me/m").decode()
    assert "license" not in ModelCard(made).data.to_dict() and "No licence file" in made


def test_a_push_takes_card_and_picture_along_and_is_up_to_date_without_them(hub, passed):
    write_card(passed, read_record(passed))
    assert run("push", passed, "me/m").code == 0
    text = hub.store.read("me/m", "README.md").decode()
    assert 'from_pretrained("me/m", trust_remote_code=True)' in text and "path/to" not in text
    assert hub.store.read("me/m", PICTURE) == picture(read_record(passed))
    assert len(hub.store.repos["me/m"].commits) == 2
    (passed / "README.md").write_text("# Another\n")
    assert "up to date" in run("push", passed, "me/m").out
    assert hub.store.read("me/m", "README.md").decode() == text


def test_weights_without_a_pass_are_marked_in_the_first_line_until_they_have_one(hub, passed, sample):
    write_verdict(passed, "FAIL", sample)
    assert run("push", passed, "me/m", "--allow-unverified").code == 0
    text = ModelCard(hub.store.read("me/m", "README.md").decode()).text
    assert text.lstrip().startswith("**UNVERIFIED")
    judge(passed, sample)
    (passed / "generation_config.json").write_text(json.dumps({"eos_token_id": 1}))
    assert run("push", passed, "me/m", "--allow-unverified").code == 0  # another file, so it is no PASS again
    assert hub.store.read("me/m", "README.md").count(b"**UNVERIFIED") == 1


def test_the_picture_has_a_line_for_each_prompt_that_was_read_in_quarters_and_says_its_budget():
    lines = {"a < b": [1e-15, 1e-14, 1e-13, 1e-12], "even": [1e-15] * 4}
    made = ElementTree.fromstring(plot(lines, 1e-10))
    name = "{http://www.w3.org/2000/svg}"
    drawn = [line.get("points") for line in made.iter(f"{name}polyline")]
    heights = [[float(point.split(",")[1]) for point in line.split()] for line in drawn]
    assert heights[0] == sorted(heights[0], reverse=True) and len({*heights[0]}) == 4 and len({*heights[1]}) == 1
    texts = {text.text for text in made.iter(f"{name}text")}
    assert {"a < b", "even", "budget 1e-10", "1e-15", "1e-10"} <= texts
    prompts = [{"name": "p", "quartiles": [1, 2, 3]}, {"name": "q", "quartiles": [1, 2, 3, 0.0]}, {"name": "r"}]
    assert lines_of([{"name": "L2", "prompts": prompts}]) == {}
    assert picture({}) is None and picture({"parity": {"levels": "x"}}) is None
