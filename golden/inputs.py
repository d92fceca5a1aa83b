"""What a verdict reads, looked at before torch is imported, so that a broken or hostile file costs no memory."""

from __future__ import annotations

from pathlib import Path

from golden.evidence.golden_header import read_golden_header
from golden.models.folders import check_folder


def check_inputs(candidate: Path | None = None, reference: Path | None = None, golden: Path | None = None) -> None:
    """Reads configs, names and headers of two models, and the header of a golden file.

    Raises:
        FolderError, GoldenFileError: one of them cannot be read as what it should be.
    """
    for folder in (candidate, reference):
        if folder is not None:
            check_folder(folder)
    if golden is not None:
        read_golden_header(golden)
