"""Opening the tokenizer of a folder: no remote code, no file that is far larger than any tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converters.checkpoint.json_files import read_json
from converters.checkpoint.regular_files import open_regular
from golden.errors import FolderError
from golden.models.loading import silenced

LARGEST = 1 << 27
"""Bytes of a tokenizer file; the largest known ones have a quarter."""
VOCABULARIES = ("tokenizer.json", "vocab.json")
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, as transformers loads it.

    Raises:
        Exception: whatever kind a broken tokenizer makes transformers raise; see `honest_errors`.
    """
    from transformers import AutoTokenizer

    for path in (folder / name for name in SETTINGS):
        if path.exists():
            read_json(path)
    for path in folder.iterdir():
        if path.name in VOCABULARIES or path.suffix in (".model", ".tiktoken", ".txt"):
            _check(path)
    with silenced(), honest_errors():
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def _check(path: Path) -> None:
    """Refuses what would take much memory before it is found to be broken."""
    with open_regular(path) as file:
        size, start = path.stat().st_size, file.read(64).lstrip()
    if size > LARGEST:
        raise FolderError(f"{path} has {size} bytes, a tokenizer has fewer than {LARGEST}")
    if path.name in VOCABULARIES and not start.startswith(b"{"):
        raise FolderError(f"{path} is no JSON object")


@contextmanager
def honest_errors() -> Iterator[None]:
    """Panics of the tokenizers library, which are no Exception of Python, as ValueError."""
    try:
        yield
    except BaseException as broken:
        if type(broken).__name__ != "PanicException":
            raise
        raise ValueError(f"the tokenizers library panics: {broken}") from None
