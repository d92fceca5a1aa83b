"""L0 and L1, structure and weights: compared through the mapping of converters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from golden.errors import FolderError
from golden.evidence.prompts import encoded_texts
from golden.verdict import LevelResult, Status

if TYPE_CHECKING:
    from converters.alignment import Alignment

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "merges.txt")
NAMED = 5
"""A detail names at most this many keys, then it says how many more there are."""


def judge_structure_and_weights(candidate: Path, reference: Path, wanted: frozenset[str]) -> list[LevelResult]:
    """L0 and L1, as far as they are in ``wanted``.

    Raises:
        FolderError: one of the folders cannot be read.
    """
    from converters.alignment import align
    from converters.errors import ConversionError

    try:
        alignment = align(candidate, reference)
        results = []
        if "L0" in wanted:
            results.append(_structure((*alignment.problems, *_tokenizer_problems(candidate, reference))))
        if "L1" in wanted:
            results.append(_weights(alignment))
    except ConversionError as unreadable:
        raise FolderError(str(unreadable)) from unreadable
    return results


def _tokenizer_problems(candidate: Path, reference: Path) -> Iterator[str]:
    """Texts that the two tokenizers encode in different ways, where both have one and their files are not equal."""
    pairs = [(candidate / name, reference / name) for name in TOKENIZER_FILES]
    if all(_content(one) == _content(other) for one, other in pairs):
        return
    found, expected = encoded_texts(candidate), encoded_texts(reference)
    for name, ids in (expected or {}).items():
        if found is not None and found[name] != ids:
            yield f"its tokenizer differs from the reference's: {other_from(name, found[name], ids)}"


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def other_from(name: str, found: Sequence[int], expected: Sequence[int]) -> str:
    """Where the ids of a text first differ, in words."""
    pairs = enumerate(zip(found, expected, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(found), len(expected)))
    return f"the ids of the text {name!r} differ from token {at + 1} on"


def _structure(problems: tuple[str, ...]) -> LevelResult:
    status = Status.FAIL if problems else Status.PASS
    more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
    return LevelResult("L0", status, float(len(problems)), 0.0, "; ".join(problems[:NAMED]) + more)


def _weights(alignment: Alignment) -> LevelResult:
    """Bitwise; the number counts the tensors that differ."""
    if not alignment.mapped:
        reason = "there is no mapping between the families of candidate and reference"
        return LevelResult("L1", Status.NOT_RUN, None, 0.0, reason, required=False)
    differing = alignment.differing()
    named = list(islice(differing, NAMED))
    count = len(named) + sum(1 for _ in differing)
    details = []
    for found in named:
        where = "" if found.element is None else f" at element {found.element}"
        details.append(f"{found.candidate_key}{where} ({found.reference_key}): {found.reason}")
    if count > len(named):
        details.append(f"and {count - len(named)} more")
    return LevelResult("L1", Status.FAIL if count else Status.PASS, float(count), 0.0, "; ".join(details))
