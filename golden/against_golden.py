"""L0 where only a golden file is at hand: what can be said of structure without the reference's folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from golden.errors import GoldenMismatchError
from golden.golden_file import GoldenEvidence
from golden.loading import MIXFORMER, read_config
from golden.prompts import encoded_texts
from golden.verdict import LevelResult, Status


def judge_structure_against(candidate: Path, golden: GoldenEvidence) -> LevelResult:
    """Family, config and tokenizer of the candidate against those of the golden; sizes are judged by L2."""
    problems = [*_family_problems(candidate, golden), *_tokenizer_problems(candidate, golden)]
    problems = problems or list(_config_problems(candidate, golden))
    note = problems or ["from a golden: config and tokenizer only; keys need the reference's folder"]
    return LevelResult("L0", Status.FAIL if problems else Status.PASS, float(len(problems)), 0.0, "; ".join(note))


def _config_problems(candidate: Path, golden: GoldenEvidence) -> Iterator[str]:
    """What no prompt may reach: a window or a context longer than any, special ids. Of families we know."""
    from converters.alignment import config_problems
    from converters.errors import ConversionError

    try:
        yield from config_problems(read_config(candidate), golden.config)
    except ConversionError as unknown:
        yield from () if read_config(candidate).get("model_type") != MIXFORMER else (str(unknown),)


def _family_problems(candidate: Path, golden: GoldenEvidence) -> Iterator[str]:
    """A MixFormer says what it was made from; any other pair of families may be one conversion apart."""
    origin = read_config(candidate).get("converted_from")
    origin = origin.get("family") if isinstance(origin, dict) else None
    theirs = golden.header["family"]
    if origin is not None and theirs not in (origin, MIXFORMER):
        yield f"the golden is of a {theirs}, the candidate was made from a {origin}"


def _tokenizer_problems(candidate: Path, golden: GoldenEvidence) -> Iterator[str]:
    texts = golden.header.get("texts") or []
    encoded = encoded_texts(candidate) if texts else None
    if encoded is None:
        return
    for prompt in golden.prompts:
        if prompt.name in texts:
            mine = tuple(encoded[prompt.name][: len(prompt.ids)])
            if mine != prompt.ids:
                at = next((i for i, (a, b) in enumerate(zip(mine, prompt.ids, strict=False)) if a != b), len(mine))
                yield f"its tokenizer differs from the golden's: {prompt.name!r} is other ids from token {at + 1} on"


def check_same_source(golden: GoldenEvidence, path: Path, reference: Path) -> None:
    """Make sure that a golden was recorded from this very reference.

    Raises:
        GoldenMismatchError: a file of the reference is not the one that was recorded.
    """
    for name, expected in golden.header["hashes"].items():
        file = reference / name
        if not file.exists():
            raise GoldenMismatchError(f"{path}: recorded from other files: {file} does not exist")
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != expected:
            raise GoldenMismatchError(
                f"{path}: recorded from other files: {file} has sha256 {found[:12]}, expected {expected[:12]}; record "
                "it again or give the folder that it was recorded from"
            )
