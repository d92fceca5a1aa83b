"""Every console and Python block of README and docs does what it shows; what CI cannot run is marked and listed."""

import re

import pytest

UNRUN = 8
"""Blocks that are marked as not run. A new one is a decision: count it here."""
GOOD = """
```console
$ convert llama ./my-llama --to mixformer --no-parity -o out
llama -> mixformer: 21 tensors, 975.74 kB
  ...
verdict: UNVERIFIED (...)
$ convert diff my-llama out
$ make test
$ convert gpt2 ./my-llama --to mixformer
...
$ echo $?
2
```
<!-- not run: needs minutes -->
```console
$ convert parity --self-test --seeds 3 | less
```
```python
assert 1
```
"""


def test_a_reader_who_follows_the_document_sees_what_it_shows(document, reader):
    problems = reader.read(document.name, document.read_text())
    assert not problems, "\n\n".join(problems)


def test_a_block_that_is_not_run_says_why(unrun):
    pytest.skip(f"{unrun.place} is not run: {unrun.reason}")


def test_blocks_that_are_not_run_are_counted(blocks):
    marked = [block.place for block in blocks if block.reason is not None]
    assert len(marked) == UNRUN, f"{len(marked)} blocks are not run, {UNRUN} were: {', '.join(marked)}"


def test_no_block_hides_behind_another_name(document):
    languages = set(re.findall(r"^```(\w+)", document.read_text(), re.MULTILINE))
    assert not languages & {"bash", "sh", "shell", "py", "pycon"}, "write console or python, so that it is run"


def test_commands_in_the_text_exist(document, commands_in_text):
    assert commands_in_text(document.read_text()) == []


def test_a_command_in_the_text_that_does_not_exist_is_found(commands_in_text):
    text = "`make tests` `make test` `convert FAMILY A --to B` `convert --no-hash` `convert --no-hashes` `convert zap`"
    assert [found.split("`")[1] for found in commands_in_text(text)] == [
        "make tests",
        "convert --no-hashes",
        "convert zap",
    ]


def test_a_document_that_is_right_has_no_problems(reader):
    assert reader.read("good.md", GOOD) == []


@pytest.mark.parametrize(
    ("right", "wrong", "sentence"),
    [
        ("convert diff", "convert dif", "ends with code 2"),
        ("--no-parity -o out", "--no-parity --output-dir out", "ends with code 2"),
        ("./my-llama --to", "./my-lama --to", "does not exist"),
        ("diff my-llama out", "diff my-llama out  # equal", "ends with code 2"),
        ("21 tensors", "22 tensors", "shows"),
        ("  ...\n", "", "shows"),
        ("$ echo $?\n2\n", "", "ends with code 2"),
        ("$ echo $?\n2\n", "$ convert families\n", "ends with code 2"),
        ("$ echo $?\n2\n", "$ echo $?\n3\n", "shows"),
        ("make test", "make tests", "no target tests"),
        ("$ make test", "$ curl somewhere", "mark the block"),
        ("--seeds 3", "--seedlings 3", "seedlings"),
        ("needs minutes", "needs luck", "is no reason that is known"),
        ("assert 1", "assert 0", "AssertionError"),
    ],
)
def test_a_document_that_is_wrong_is_found_out(right, wrong, sentence, reader):
    assert GOOD.count(right)
    problems = reader.read("wrong.md", GOOD.replace(right, wrong))
    assert problems and any(sentence in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("shown", "alike"),
    [
        ("2.49e-15 (budget 1e-10)", True),
        ("2.49e-14 (budget 1e-10)", True),
        ("2.49e-12 (budget 1e-10)", False),
        ("2.49e-15 (budget 1e-9)", False),
        ("0 (budget 1e-10)", False),
        ("...e-15 (budget ...)", True),
        ("3.1e-15 (budget 1e-10), 1e-9 allowed", False),
    ],
)
def test_a_measured_number_may_differ_tenfold_and_all_else_is_exact(shown, alike, compared):
    assert (compared(f"  L2  PASS  {shown}", "  L2  PASS  3.1e-15 (budget 1e-10)\n") is None) == alike
