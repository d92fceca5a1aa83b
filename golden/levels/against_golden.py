"""L0 against a golden file: what can be compared of the structure without the reference's folder."""

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
    """Family, config and tokenizer of the candidate against those in the golden file. L2 judges sizes."""
    problems = [*_family_problems(candidate, golden), *_tokenizer_problems(candidate, golden)]
    problems = problems or list(_config_problems(candidate, golden))
    note = problems or ["from a golden file: config and tokenizer only; to compare keys, give the reference's folder"]
    return LevelResult("L0", Status.FAIL if problems else Status.PASS, float(len(problems)), 0.0, "; ".join(note))


def _config_problems(candidate: Path, golden: GoldenEvidence) -> Iterator[str]:
    """Config differences that prompts may not show: a window or a context longer than any prompt, special ids."""
    from converters.alignment import config_problems
    from converters.errors import ConversionError

    try:
        yield from config_problems(read_config(candidate), golden.config)
    except ConversionError as unknown:
        yield from () if read_config(candidate).get("model_type") != MIXFORMER else (str(unknown),)


def _family_problems(candidate: Path, golden: GoldenEvidence) -> Iterator[str]:
    """A MixFormer must be made from the golden file's family. Other pairs of families may be one conversion apart."""
    origin = read_config(candidate).get("converted_from")
    origin = origin.get("family") if isinstance(origin, dict) else None
    recorded = golden.header["family"]
    if origin is not None and recorded not in (origin, MIXFORMER):
        yield f"the golden file is of the family {recorded}, the candidate was made from {origin}"


def _tokenizer_problems(candidate: Path, golden: GoldenEvidence) -> Iterator[str]:
    texts = set(golden.header.get("texts") or [])
    expected = {prompt.name: prompt.ids for prompt in golden.prompts if prompt.name in texts}
    encoded = (encoded_texts(candidate) if expected else None) or {}
    for name, ids in expected.items() if encoded else ():
        found = [i for i in encoded[name] if 0 <= i < golden.used_vocab][: len(ids)]
        if tuple(found) != ids:
            yield f"its tokenizer differs from the golden file's: {other_from(name, found, ids)}"


def check_same_source(golden: GoldenEvidence, path: Path, reference: Path) -> None:
    """Check that a golden file was recorded from this reference.

    Raises:
        GoldenMismatchError: a file of the reference is not the one that was recorded.
    """
    for name, expected in golden.header["hashes"].items():
        file = reference / name
        if not file.exists():
            raise GoldenMismatchError(
                f"{path}: the golden file was recorded from other files: {file} does not exist; record it again"
            )
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != expected:
            raise GoldenMismatchError(
                f"{path}: the golden file was recorded from other files: {file} has sha256 {found[:12]}, expected "
                f"{expected[:12]}; record it again, or give the folder that it was recorded from"
            )
