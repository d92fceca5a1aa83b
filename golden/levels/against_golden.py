"""L0 against a golden file: what can be compared of the structure without the reference's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from converters.checkpoint.cache_folders import named_sha256, sha256_of
from converters.paging import pager_of
from golden.errors import GoldenMismatchError
from golden.evidence.golden_file import GoldenEvidence
from golden.levels.beside_weights import compare_recorded
from golden.levels.structure import structure_level
from golden.models.folders import read_config
from golden.models.loading import MIXFORMER, says_mixformer
from golden.verdict import LevelResult

if TYPE_CHECKING:
    from converters.config_alignment import ConfigFindings


def judge_structure_against(candidate: Path, golden: GoldenEvidence) -> LevelResult:
    """Family, config and tokenizer of the candidate against those of the golden; sizes are judged by L2."""
    beside = compare_recorded(candidate, golden.beside)
    found = _config_findings(candidate, golden)
    problems = [*_family_problems(candidate, golden), *beside.problems]
    notes = [
        *beside.notes,
        "from a golden file: config and tokenizer only; to compare keys, give the reference's folder",
    ]
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
        return ConfigFindings((str(unknown),) if says_mixformer(config) else ())


def _family_problems(candidate: Path, golden: GoldenEvidence) -> Iterator[str]:
    """A MixFormer must be made from the golden file's family. Other pairs of families may be one conversion apart."""
    origin = read_config(candidate).get("converted_from")
    origin = origin.get("family") if isinstance(origin, dict) else None
    recorded = golden.header["family"]
    if origin is not None and recorded not in (origin, MIXFORMER):
        yield f"the golden file is of the family {recorded}, the candidate was made from {origin}"


def check_same_source(golden: GoldenEvidence, path: Path, reference: Path) -> None:
    """Check that a golden file was recorded from this reference.

    Raises:
        GoldenMismatchError: a file of the reference is not the one that was recorded.
    """
    folder = reference if reference.is_dir() else reference.parent
    for name, expected in golden.header["hashes"].items():
        file = folder / name
        if not file.exists():
            raise GoldenMismatchError(
                f"{path}: the golden file was recorded from other files: {file} does not exist; record it again"
            )
        found = named_sha256(file) if pager_of(folder) else sha256_of(file)  # of a stand-in, as the Hub lists it
        if found != expected:
            raise GoldenMismatchError(
                f"{path}: the golden file was recorded from other files: {file} has sha256 {found[:12]}, expected "
                f"{expected[:12]}; record it again, or give the folder that it was recorded from"
            )
