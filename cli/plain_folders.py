"""Folders that golden and transformers can load: the folder itself, or a copy of it as safetensors for a while."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.checkpoint.checkpoint import Checkpoint


@contextmanager
def plain_folders(candidate: Path, reference: Path | None) -> Iterator[tuple[Path, Path | None]]:
    """Both sides of a verdict, each as it is or as a plain copy, which is removed at the end.

    Of candidates only a MixFormer is copied: a plain copy of another family says the right tie where its config.json
    does not, and a candidate is judged by what it says itself.
    """
    beside = candidate.absolute().parent
    place = beside if os.access(beside, os.W_OK) else Path(tempfile.gettempdir())
    with _plain(candidate, place, ours_only=True) as one, _plain(reference, place) as other:
        assert one is not None
        yield one, other


@contextmanager
def _plain(path: Path | None, place: Path, *, ours_only: bool = False) -> Iterator[Path | None]:
    checkpoint = _unplain(path, ours_only=ours_only) if path else None
    if path is None or checkpoint is None:
        yield path
        return
    from converters.engine.output_folder import copy_file
    from converters.plain_copy import write_plain
    from converters.provenance import NAME

    with tempfile.TemporaryDirectory(prefix=f".{path.name}.plain-", dir=place) as folder:
        copy = write_plain(checkpoint, Path(folder) / path.name)
        if ours_only and (checkpoint.folder / NAME).is_file():  # what the conversion recorded is judged too
            copy_file(checkpoint.folder / NAME, copy / NAME, durable=False)
        yield copy


def _unplain(path: Path, *, ours_only: bool) -> "Checkpoint | None":
    """The checkpoint that has to be copied; None for one that is loaded as it is, or not at all: golden says why."""
    from converters.checkpoint.opening import open_checkpoint
    from converters.errors import ConversionError
    from converters.family import OURS, dialect_of, family_of
    from converters.plain_copy import is_plain

    try:
        checkpoint = open_checkpoint(path, dequantize=True)
        family = family_of(checkpoint.config)
        left = family != OURS if ours_only else bool(dialect_of(family))
        return None if left or is_plain(checkpoint) else checkpoint
    except ConversionError:
        return None
