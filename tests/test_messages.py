"""The style of messages, as far as a machine can check it: errors of cli, converters and golden, and the help."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RULES = {
    "it ends without a full stop": r"(?<!\.)\.$",
    "it begins with a small letter": r"^(?!I/O)[A-Z][a-z]+ ",
    "counts have one noun": r"\(s\)|\b1 \w+s\b",
    "options have their name on the command line": r"\b(drop_buffers|pad_vocab|max_shard_size|self_test|own_head)\b",
    "users do not know the sides of our code": r"\b(theirs|ours)\b",
    "a golden file is called that": r"(?<!--)(?<!module ')\bgoldens?\b(?! (file|record|show))",
    "what cannot be held is said with the family's name": r"expressed there",
}


def messages(package: str) -> Iterator[tuple[str, str]]:
    """(place, text) of every text that an error is raised with; values in it are written `{}`."""
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                for argument in node.exc.args:
                    text = text_of(argument)
                    if " " in text:
                        yield f"{file.relative_to(ROOT)}:{node.lineno}", text


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join("{}" if isinstance(part, ast.FormattedValue) else text_of(part) for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def broken(text: str) -> list[str]:
    return [rule for rule, pattern in RULES.items() if re.search(pattern, text)]


@pytest.mark.parametrize("package", ["cli", "converters", "golden"])
def test_errors_are_in_one_style(package):
    found = list(messages(package))
    assert len(found) > 2
    assert [(place, text, broken(text)) for place, text in found if broken(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "{} is missing.",
        "Missing option {}",
        "got unexpected extra argument(s) {}",
        "1 differences",
        "pass drop_buffers",
        "{} cannot be said in ours",
        "{} is no golden",
        "{}; it cannot be expressed there, only {} can",
    ],
)
def test_each_rule_would_notice(text):
    assert len(broken(text)) == 1


def test_a_sentence_that_keeps_all_rules_passes():
    assert (
        broken("{}: no golden file; make one with `convert golden record`, or pass --drop-buffers for {} tensors") == []
    )


def test_help_texts_are_sentences():
    import typer

    from cli.main import app

    group = typer.main.get_command(app)
    commands = [*group.commands.values(), *group.commands["golden"].commands.values()]
    texts = [param.help for command in commands for param in command.params if getattr(param, "help", None)]
    assert len(texts) > 50
    assert [text for text in texts if not text.endswith(".")] == []
