"""L0 where only a golden file is at hand: what can be said of structure without the reference's folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from golden.errors import GoldenMismatchError
from golden.evidence.golden_file import GoldenEvidence
from golden.levels.beside_weights import compare_recorded
from golden.levels.structure import structure_level
from golden.models.loading import MIXFORMER, read_config
from golden.verdict import LevelResult

if TYPE_CHECKING:
    from converters.config_alignment import ConfigFindings


def judge_structure_against(candidate: Path, golden: GoldenEvidence) -> LevelResult:
    """Family, config and tokenizer of the candidate against those of the golden; sizes are judged by L2."""
    beside = compare_recorded(candidate, golden.beside)
    found = _config_findings(candidate, golden)
    problems = [*_family_problems(candidate, golden), *beside.problems]
    notes = [*beside.notes, "from a golden: config and tokenizer only; keys need the reference's folder"]
    return structure_level([*problems, *found.problems], [*beside.doubts, *found.doubts], notes)


def _config_findings(candidate: Path, golden: GoldenEvidence) -> ConfigFindings:
    """What no prompt may reach: a window or a context longer than any, special ids. Of families we know."""
    from converters.config_alignment import ConfigFindings, compare_configs
    from converters.errors import ConversionError
    from converters.provenance import recorded_options

    config = read_config(candidate)
    try:
        return compare_configs(config, golden.config, recorded_options(candidate).waive)
    except ConversionError as unknown:
        return ConfigFindings((str(unknown),) if config.get("model_type") == MIXFORMER else ())


def _family_problems(candidate: Path, golden: GoldenEvidence) -> Iterator[str]:
    """A MixFormer says what it was made from; any other pair of families may be one conversion apart."""
    origin = read_config(candidate).get("converted_from")
    origin = origin.get("family") if isinstance(origin, dict) else None
    theirs = golden.header["family"]
    if origin is not None and theirs not in (origin, MIXFORMER):
        yield f"the golden is of a {theirs}, the candidate was made from a {origin}"


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
