"""A wrong command line is answered in one style: a sentence, a line about the help, exit code 2."""

import subprocess
import sys

import pytest

OURS = "from cli.main import main; main()"
TYPERS = "import sys; from cli.main import app; app(sys.argv[1:])"
MISUSES = [
    (["llama", "--bogus"], "there is no option --bogus", "convert llama"),
    (["plan", "llama", "x", "--tp", "y"], "there is no option --tp (did you mean --to?)", "convert plan"),
    (["llama"], "the option --to is missing: the family to convert to", "convert llama"),
    (["golden", "record", "x"], "the option --output is missing", "convert golden record"),
    (["plan"], "the argument SOURCE is missing: model folder or file", "convert plan"),
    (["plan", "llama", "--to", "mixformer"], "the argument SOURCE is missing: llama is a family", "convert plan"),
    (["plan", "a", "b", "c", "--to", "d"], "1 argument too many: c", "convert plan"),
    (["lama"], "there is no family or command 'lama' (did you mean llama?), and no file or folder", "convert"),
    (["inspct", "x"], "there is no family or command 'inspct' (did you mean inspect?)", "convert"),
    (["frobnicate"], "there is no family or command 'frobnicate', and no file or folder of that name", "convert"),
    (["golden", "shw"], "there is no command 'shw' (did you mean show?)", "convert golden"),
    (["llama", "a", "b", "--to", "c"], "1 argument too many: b", "convert llama"),
    (["llama", "a", "b", "c", "--to", "c"], "2 arguments too many: b c", "convert llama"),
    (["llama", "--to"], "--to needs a value", "convert llama"),
    (["llama", "--json=3"], "--json takes no value", "convert llama"),
    (["llama", "--to", "c", "--threads", "0"], "--threads: expected a whole number of 1 or more", "convert llama"),
    (
        ["llama", "--to", "c", "--format", "gg"],
        "--format is 'gg', expected safetensors, native or gguf",
        "convert llama",
    ),
    (["parity", "--self-test", "--jobs", "0"], "--jobs: expected a whole number of 1 or more", "convert parity"),
    ([""], "SOURCE: is empty, expected a value", "convert"),
    (["llama", "", "--to", "mixformer"], "SOURCE: is empty, expected a value", "convert llama"),
    (["llama", "x", "--to", ""], "--to: is empty, expected a value", "convert llama"),
    (["llama", "x", "--to", "mixformer", "-o", ""], "--output: is empty, expected a value", "convert llama"),
    (["llama", "x", "--to", "mixformer", "--waive", ""], "--waive: is empty, expected a value", "convert llama"),
    (["plan", "llama", "", "--to", "mixformer"], "SOURCE: is empty, expected a value", "convert plan"),
    (["inspect", ""], "PATH: is empty, expected a value", "convert inspect"),
    (["parity", "x", "--reference", ""], "--reference: is empty, expected a value", "convert parity"),
    (["diff", "a"], "the argument B is missing: another model", "convert diff"),
    (["golden", "record", "-o", "x"], "the argument SOURCE is missing", "convert golden record"),
    (["push", "a", "b/c", "--timeout", "0"], "--timeout: expected a number of 0.1 or more", "convert push"),
    (["push", "a", "b/c", "--timeout", "x"], "--timeout: expected a number of 0.1 or more", "convert push"),
    (["parity", "--self-test", "--reference", "x"], "--self-test makes its own models", "convert parity"),
    (["parity", "x"], "give CANDIDATE, and what it is compared with", "convert parity"),
]


def answered(code, words) -> tuple[int, str, list[str]]:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr.splitlines()


def in_our_style(lines, sentence, command) -> bool:
    first = lines[0].startswith(f"error: {sentence}") and not lines[0].endswith(".")
    return len(lines) == 2 and first and lines[1] == f"  for help: {command} --help"


@pytest.mark.parametrize(("words", "sentence", "command"), MISUSES, ids=[" ".join(words) for words, *_ in MISUSES])
def test_a_usage_error_is_a_sentence_and_a_hint(words, sentence, command):
    code, output, lines = answered(OURS, words)
    assert (code, output) == (2, "")
    assert in_our_style(lines, sentence, command), lines


def test_the_style_of_typer_itself_would_be_noticed():
    code, _, lines = answered(TYPERS, ["llama", "--bogus"])
    assert code == 2 and any(line.startswith("Usage:") for line in lines)
    assert not in_our_style(lines, "there is no option --bogus", "convert llama")


def test_a_command_without_arguments_still_shows_its_help():
    code, _, lines = answered(OURS, ["golden"])
    assert code == 2 and lines[0].startswith("Usage: convert golden")
