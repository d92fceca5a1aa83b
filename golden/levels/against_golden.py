"""L0 where only a golden file is at hand: what can be said of structure without the reference's folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from golden.errors import GoldenMismatchError
from golden.evidence.golden_file import GoldenEvidence
from golden.evidence.prompts import encoded_texts
from golden.levels.structure import other_from
from golden.models.loading import MIXFORMER, read_config
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
    texts = set(golden.header.get("texts") or [])
    expected = {prompt.name: prompt.ids for prompt in golden.prompts if prompt.name in texts}
    encoded = (encoded_texts(candidate) if expected else None) or {}
    for name, ids in expected.items() if encoded else ():
        mine = [i for i in encoded[name] if 0 <= i < golden.used_vocab][: len(ids)]
        if tuple(mine) != ids:
            yield f"its tokenizer differs from the golden's: {other_from(name, mine, ids)}"


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
