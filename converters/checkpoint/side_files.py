"""Side files (tokenizer, generation settings, licence), which are copied unchanged."""

import filecmp
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from converters.card_marks import is_our_card
from converters.checkpoint.regular_files import check_regular
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
LARGEST = 1 << 30  # bytes; a tokenizer is far smaller than this, weights under another name are larger
TEMPLATES = "additional_chat_templates"
README, SOURCE_README = "README.md", "source_README.md"


def side_files(source: Path, *, home: bool) -> dict[str, Path]:
    """Name in the output -> file in the source.

    home: the output is converted back to the family of its source, so its README gets its name back.

    Links are followed inside the source, and from a snapshot of a Hugging Face cache to the blobs of the same model.
    A file that another link leads to is no part of the model, and its copy in the output may be published.

    Raises:
        UnsafeFile: a file is not a regular file, a link to a file elsewhere, or too large for its name.
    """
    found = {name: path for name, path in _listed(source) if is_carried(path.name)}
    found.update(_readme(source, home=home))
    for path in found.values():
        _check(path, source)
    return found


def _listed(source: Path) -> Iterator[tuple[str, Path]]:
    """Files of the folder, and of the one folder that transformers keeps further chat templates in.

    A model in one file has no side files: files in the same folder may belong to other models.
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
        yield README, theirs
    elif not home and own.is_file() and not is_our_card(own):
        yield SOURCE_README, own


def _check(path: Path, source: Path) -> None:
    try:
        size = check_regular(path)
        real = path.resolve(strict=True)
    except OSError as error:
        raise UnsafeFile(
            f"{path} cannot be read: {error.strerror}; remove it, or put a copy of the file there"
        ) from None
    if not any(real.is_relative_to(place) for place in _own_places(source)):
        raise UnsafeFile(
            f"{path} is a link to {real}, outside of the model; put a copy of the file in its place, or remove the link"
        )
    if size > LARGEST:
        raise UnsafeFile(f"{path} has {size} bytes; a file of this name should have fewer than {LARGEST}")


def _own_places(source: Path) -> Iterator[Path]:
    """Where files of a source lie: its folder, and for `models--NAME/snapshots/REVISION` the blobs beside snapshots."""
    folder = source.resolve()
    yield folder
    cached = folder.parent.parent
    if folder.parent.name == "snapshots" and cached.name.startswith("models--"):
        yield cached / "blobs"


def differing_side_files(one: Path, other: Path) -> Iterator[str]:
    """Side files that are not the same in two folders, a sentence each. A card (README.md) is none of them."""
    names = {name for folder in (one, other) for name, path in _listed(folder) if is_carried(path.name)}
    for name in sorted(names):
        first, second = one / name, other / name
        if not first.is_file() and not second.is_file():
            continue
        if not first.is_file() or not second.is_file():
            yield f"{name} is only in {one if first.is_file() else other}"
        elif not filecmp.cmp(first, second, shallow=False):
            yield f"{name} differs"
