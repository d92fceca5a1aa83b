"""Lines that fit a width, of whole words."""

import pytest

from cli.terminal.layout import broken, columns, fitted, table

ROWS = [
    ("family", "what it is", "converted"),
    ("llama", "LLaMA and models of its architecture", "MHA, GQA; " * 8 + "any"),
]


def words(lines):
    return " ".join(lines).split()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_table_fits_and_keeps_every_word_whole(width):
    lines = table(ROWS, width)
    assert max(map(len, lines)) <= width
    assert sorted(words(lines)) == sorted(word for row in ROWS for cell in row for word in cell.split())


def test_a_pipe_gets_unbroken_lines(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert columns() is None and len(table(ROWS, columns())) == 2
    monkeypatch.setenv("COLUMNS", "80")
    assert columns() == 80 and len(table(ROWS, columns())) > 2
    monkeypatch.setenv("COLUMNS", "many")
    assert columns() is None


def test_a_word_that_is_longer_than_a_line_stays_whole():
    path = "/a/very/long/path/to/a/model/that/does/not/fit"
    assert path in [line.strip() for line in broken(f"from {path} to here", 20)]


def test_commands_to_copy_are_not_broken():
    line = "verdict: UNVERIFIED (judge it: convert parity a-long-name --reference another-long-name)"
    assert fitted(line, 40) == [line]
    assert len(fitted(line.replace("convert ", ""), 40)) > 1  # the control
