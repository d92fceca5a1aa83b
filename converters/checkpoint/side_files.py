"""Files beside the weights that make a folder usable (tokenizer, generation settings, licence), carried unchanged."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from converters.errors import UnsafeFile

CARRIED = (
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template*",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
    "USE_POLICY*",
)
NEVER = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.py", "*.pkl", "*.index.json")
LARGEST = 1 << 30  # bytes; a tokenizer is far smaller, weights under another name are not
TEMPLATES = "additional_chat_templates"
README, SOURCE_README = "README.md", "source_README.md"


def side_files(source: Path, *, home: bool) -> dict[str, Path]:
    """Name in the output -> file in the source.

    home: the output goes back to the family that the source came from, so its README takes its own name again.

    Raises:
        UnsafeFile: a file is not a regular one, or too large for what its name says.
    """
    found = {name: _regular(path) for name, path in _listed(source) if is_carried(path.name)}
    found.update(_readme(source, home=home))
    return found


def _listed(source: Path) -> Iterator[tuple[str, Path]]:
    """Files of the folder, and of the one folder that transformers keeps further chat templates in.

    A model in one file has nothing beside it: what lies in the same folder may belong to others.
    """
    if not source.is_dir():
        return
    for path in sorted(source.iterdir()):
        if path.name == TEMPLATES and path.is_dir():
            yield from ((f"{TEMPLATES}/{inner.name}", inner) for inner in sorted(path.glob("*.jinja")))
        elif not path.is_dir():
            yield path.name, path


def is_carried(name: str) -> bool:
    """Whether a file of this name is a side file."""
    low = name.lower()
    carried = any(fnmatchcase(low, pattern.lower()) for pattern in CARRIED) or low.endswith(".jinja")
    return carried and not any(fnmatchcase(low, pattern) for pattern in NEVER)


def _readme(source: Path, *, home: bool) -> Iterator[tuple[str, Path]]:
    own, theirs = source / README, source / SOURCE_README
    if home and theirs.is_file():
        yield README, _regular(theirs)
    elif not home and own.is_file():
        yield SOURCE_README, _regular(own)


def _regular(path: Path) -> Path:
    if not path.is_file():
        raise UnsafeFile(f"{path} is not a regular file")
    if path.stat().st_size > LARGEST:
        raise UnsafeFile(
            f"{path} has {path.stat().st_size} bytes; a file of this name should have fewer than {LARGEST}"
        )
    return path


def differing_side_files(one: Path, other: Path) -> Iterator[str]:
    """Side files that are not the same in two folders, a sentence each."""
    names = {name for folder in (one, other) for name, path in _listed(folder) if is_carried(path.name)} | {README}
    for name in sorted(names):
        first, second = one / name, other / name
        if not first.is_file() and not second.is_file():
            continue
        if not first.is_file() or not second.is_file():
            yield f"{name} is only in {one if first.is_file() else other}"
        elif first.read_bytes() != second.read_bytes():
            yield f"{name} differs"
