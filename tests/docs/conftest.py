"""Reads a document as a person does: runs its console and Python blocks in one folder, in order, and compares.

A line that starts with `$ ` is a command; the lines below it are what it prints. `...` stands for any text of a line,
and a line `...` for any lines. Numbers that are measured (in e-notation, or before a budget) may differ tenfold; all
else is exact, also what is allowed. A command has to end with code 0, or `$ echo $?` follows and shows another. A `#`
is a word as any other, as it is in a shell that people type into (zsh).
"""

import importlib.util
import io
import re
import shlex
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from cli import main
from converters.sample import write_sample
from golden.models.hot import make_hot

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
OURS = ("convert", "mixformer")
SHELL = ("cp", "mkdir", "ls", "cat")
ROOT_OPTIONS = ("--help", "--version", "--install-completion", "--show-completion")
REASONS = {
    "needs the network",
    "needs the Hub",
    "needs a GPU",
    "needs minutes",
    "needs an installed plug-in",
    "needs vLLM and llama.cpp",
    "needs Lightning",
    "needs DeepSpeed",
    "part of a file",
}
BLOCK = re.compile(r"^(?:<!-- not run: ([^\n]*?) -->\n)?```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MEASURED = re.compile(r"(?<!budget )(?<![\w.])(\d+(?:\.\d+)?e[-+]\d+\b(?! allowed)|\d+(?:\.\d+)?(?= \(budget))")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is its first within the document, `reason` why it is not run (None: it is)."""

    document: str
    language: str
    text: str
    line: int
    reason: str | None

    def commands(self) -> Iterator[tuple[str, str]]:
        """Each command with the lines that are shown below it."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield command, shown.strip("\n")

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


def blocks_of(document: str, text: str) -> list[Block]:
    """The console and Python blocks of a document."""
    return [
        Block(document, found[2], found[3], text[: found.start(3)].count("\n") + 1, found[1])
        for found in BLOCK.finditer(text)
    ]


def difference(shown: str, printed: str) -> str | None:
    """What is wrong with the lines that a document shows, or None."""
    pieces = [
        r"(?:.*\n)*?" if line.strip() == "..." else _line_pattern(line) + r"\n"
        for line in map(str.rstrip, shown.splitlines())
    ]
    lines = "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())
    found = re.fullmatch("".join(pieces), lines)
    if found is None:
        return f"shows\n{shown}\nand what is printed is\n{lines}"
    for said, measured in zip(MEASURED.findall(shown), found.groups(), strict=True):
        if not float(said) / 10 <= float(measured) <= float(said) * 10:
            return f"shows {said}, and {measured} is measured"
    return None


def _line_pattern(line: str) -> str:
    """A shown line as a regular expression, with a group for each number that is measured."""
    parts = re.split(MEASURED, line)
    return "".join(
        r"(\d[\d.e+-]*)" if k % 2 else ".*".join(map(re.escape, part.split("..."))) for k, part in enumerate(parts)
    )


def targets() -> set[str]:
    """What `make` can be asked for."""
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def misspelt(words: list[str]) -> str | None:
    """What is wrong with the words of a command that is not run: its verb, its options, or its target."""
    if words[0] == "make":
        unknown = [word for word in words[1:] if word not in targets()]
        return f"there is no target {unknown[0]}" if unknown else None
    return _usage_error(words[1:]) if words[0] in OURS else None


def _usage_error(words: list[str]) -> str | None:
    """What the command line itself says to a verb or an option that it does not have; nothing is run."""
    plugins = {folder.name for folder in (ROOT / "tests" / "plugins").iterdir()}
    code, printed = run(["llama", *words[1:], "--help"] if words[:1] and words[0] in plugins else [*words, "--help"])
    return printed if code else None


def misspelt_in_text(text: str) -> list[str]:
    """Commands in the running text of a document that do not exist. FAMILY, or no verb, stands for any family."""
    wrong = []
    for command in re.findall(r"`((?:convert|mixformer|make) [^`\n]+)`", text):
        first, *words = shlex.split(command.replace("FAMILY", "llama").replace("SOURCE", "./source"))
        if first in OURS and words[0].startswith("--") and words[0] not in ROOT_OPTIONS:
            words = ["llama", *words]
        wrong += [f"`{command}`: {why}" for why in [misspelt([first, *words])] if why]
    return wrong


def run(words: list[str]) -> tuple[int, str]:
    """Exit code and output of the command line, as a terminal shows them: both streams, in order."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        try:
            code = main.app(words, prog_name="convert") or 0
        except SystemExit as ending:
            code = int(ending.code or 0)
        except Exception as failure:
            code = main._told(failure, debug=False)
    return code, output.getvalue()


@dataclass
class Reader:
    """Somebody who follows a document in an empty folder, with small models and files of the names that it shows."""

    folder: Path
    names: dict[str, object] = field(default_factory=lambda: {"__name__": "__main__"})
    code: int = 0

    def read(self, document: str, text: str) -> list[str]:
        """What does not hold, each with its place; empty if all is as the document says."""
        for name, make in SOURCES.items():
            if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-]|-)", text) and not (self.folder / name).exists():
                make(self.folder / name)
        with chdir(self.folder), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [problem for block in blocks_of(document, text) for problem in self._problems(block)]

    def _problems(self, block: Block) -> Iterator[str]:
        if block.reason is not None:
            if block.reason not in REASONS:
                yield f"{block.place}: {block.reason!r} is no reason that is known: {', '.join(sorted(REASONS))}"
            yield from unrun_problems(block)
        elif block.language == "python":
            yield from self._python(block)
        else:
            yield from self._console(block)

    def _python(self, block: Block) -> Iterator[str]:
        try:
            code = compile("\n" * (block.line - 1) + block.text, block.document, "exec")
            with redirect_stdout(io.StringIO()):
                exec(code, self.names)
        except Exception as error:
            yield f"{block.place}: {type(error).__name__}: {error}"

    def _console(self, block: Block) -> Iterator[str]:
        commands = list(block.commands())
        for (command, shown), (following, _) in zip(commands, [*commands[1:], ("", "")], strict=True):
            printed, wrong = self._run(command)
            if wrong is None and shown:
                wrong = difference(shown, printed)
            if wrong is None and self.code and following != "echo $?":
                wrong = f"ends with code {self.code}\n{printed}"
            if wrong:
                yield f"{block.place}: `{command}` {wrong}"

    def _run(self, command: str) -> tuple[str, str | None]:
        """Runs one command: what it prints, and why it cannot be run."""
        words = shlex.split(command)
        if words[0] in OURS:
            self.code, printed = run(words[1:])
            return printed, None
        if words == ["echo", "$?"]:
            code, self.code = self.code, 0
            return str(code), None
        if words[0] in SHELL:
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
            self.code = done.returncode
            return done.stdout + done.stderr, None
        if words[0] == "make":
            return "", misspelt(words)
        return "", "is no command that this test can run; mark the block with `<!-- not run: REASON -->`"


def unrun_problems(block: Block) -> Iterator[str]:
    """What can be seen to be wrong with a block that is not run."""
    if block.language == "console":
        for command, _ in block.commands():
            for part in command.split(" | "):
                wrong = misspelt(shlex.split(part))
                if wrong:
                    yield f"{block.place}: `{command}`: {wrong}"


@cache
def _writers() -> ModuleType:
    """The writers of native forms that the tests of those forms have."""
    path = ROOT / "tests" / "converters" / "forms" / "conftest.py"
    spec = importlib.util.spec_from_file_location("native_writers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _native(form: str) -> Callable[[Path], object]:
    """A hot LLaMA in a file of another program."""

    def make(path: Path) -> object:
        source = make_hot("llama", path.parent / f".{path.name}.source", **_writers().SIZES)
        return getattr(_writers(), f"write_{form}")(source, path)

    return make


# The names that documents may show, and what lies there.
SOURCES: dict[str, Callable[[Path], object]] = {
    "my-llama": write_sample,
    "my-mistral": lambda folder: write_sample(folder, "mistral"),
    "my-gpt2": lambda folder: write_sample(folder, "gpt2"),
    "stories260K.bin": _native("llama2c"),
    "ckpt.pt": lambda path: _writers().write_nanogpt(path),
    "my-llama.gguf": _native("gguf"),
    "my-meta-llama": _native("meta"),
}


def all_blocks() -> list[Block]:
    """The blocks of all documents."""
    texts = [(str(path.relative_to(ROOT)), path.read_text()) for path in DOCUMENTS]
    return [block for name, text in texts for block in blocks_of(name, text)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`document`: the path of every document. `unrun`: every block that is marked."""
    if "document" in metafunc.fixturenames:
        metafunc.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
    if "unrun" in metafunc.fixturenames:
        marked = [block for block in all_blocks() if block.reason is not None]
        metafunc.parametrize("unrun", marked, ids=lambda block: block.place)


@pytest.fixture
def blocks() -> list[Block]:
    """The blocks of all documents."""
    return all_blocks()


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """A reader in an empty folder, whose terminal has no width: workers of pytest-xdist say that theirs has 80."""
    monkeypatch.delenv("COLUMNS", raising=False)
    return Reader(tmp_path)


@pytest.fixture
def compared() -> Callable[[str, str], str | None]:
    """Compares shown lines with printed ones."""
    return difference


@pytest.fixture
def commands_in_text() -> Callable[[str], list[str]]:
    """Finds commands in running text that do not exist."""
    return misspelt_in_text
