"""The README is short, names every command and family, and says nothing that another file says otherwise."""

import re
from pathlib import Path

from cli.main import app
from converters.family import list_families, umbrellas

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LINES = 150


def test_it_is_read_in_three_minutes():
    assert len(README.splitlines()) <= LINES, "move what is not needed in the first three minutes to docs/"


def test_every_command_is_named():
    verbs = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    named = set(re.findall(r"`convert ([a-z0-9]+)", README))
    assert verbs - {"mixformer"} == named


def test_every_family_is_named():
    families = {family.name for family in list_families(plugins=False) if not family.dialect_of}
    families |= set(umbrellas())  # one name for several dialects
    (sentence,) = re.findall(r"The families are (.*?), each", README, re.DOTALL)
    assert set(re.findall(r"`([\w-]+)`", sentence)) == families


def test_the_demo_is_the_first_conversion():
    commands = re.findall(r"^run (.*)$", (ROOT / "scripts" / "demo.sh").read_text(), re.MULTILINE)
    assert commands == re.findall(r"^\$ (convert .*)$", README, re.MULTILINE)[: len(commands)]
    assert len(commands) == 3


def test_its_figures_of_speed_are_those_of_the_benchmarks():
    (table,) = re.findall(r"^## Speed\n\n(.*?)\n\n", README, re.MULTILINE | re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    benchmarks = (ROOT / "docs" / "benchmarks.md").read_text()
    for route, *figures in rows:
        (line,) = (line for line in benchmarks.splitlines() if line.startswith(f"| {route}"))
        measured = re.findall(r"\| ([\d.]+)", line)
        assert figures == measured[: len(figures)], route


def test_links_lead_to_files(document):
    assert broken_links(document, document.read_text()) == []


def test_a_link_to_nowhere_is_found():
    text = "[a](docs/nowhere.md) [b](docs/benchmarks.md#planning-and-judging) [c](docs/benchmarks.md#nowhere)"
    assert broken_links(ROOT / "README.md", text) == ["docs/nowhere.md", "docs/benchmarks.md#nowhere"]


def broken_links(document: Path, text: str) -> list[str]:
    """Links of a document to files that do not exist, or to headings that they do not have."""
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith("http")]
    return [link for link in links if not leads_somewhere(document, text, *link.partition("#")[::2])]


def leads_somewhere(document: Path, text: str, path: str, heading: str) -> bool:
    """Whether a file exists, and has a heading if one is named."""
    target = document.parent / path if path else document
    if not target.exists() or not heading:
        return target.exists()
    headings = re.findall(r"^#+ (.*)$", target.read_text() if path else text, re.MULTILINE)
    return heading in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
