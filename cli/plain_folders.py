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

    Of candidates only a MixFormer is copied, and one whose config.json does not name its class or dtype as transformers
    does: else a candidate is judged by what it says itself.
    """
    beside = candidate.absolute().parent
    place = beside if os.access(beside, os.W_OK) else Path(tempfile.gettempdir())
    mine, theirs = _opened(candidate), _opened(reference)
    left = _left_out(candidate)
    with (
        _plain(candidate, mine, place, _origin(theirs), is_candidate=True) as one,
        _plain(reference, theirs, place, _origin(mine), is_candidate=False, left=left) as other,
    ):
        assert one is not None
        yield one, other


def _opened(path: Path | None) -> "Checkpoint | None":
    """The checkpoint; None for one that cannot be opened: golden says why."""
    from converters.checkpoint.opening import open_checkpoint
    from converters.errors import ConversionError

    try:
        return open_checkpoint(path, dequantize=True) if path else None
    except ConversionError:
        return None


def _left_out(candidate: Path) -> tuple[str, ...]:
    """Patterns of tensors that the candidate's conversion left out: they are no part of the reference either."""
    from converters.errors import ConversionError
    from converters.provenance import recorded_options

    try:
        return recorded_options(candidate).drop
    except ConversionError:
        return ()


def _origin(other: "Checkpoint | None") -> str | None:
    """The family that the other side came from: the family of a config.json that does not name it."""
    from converters.config_alignment import origin

    return origin(other.config) if other else None


@contextmanager
def _plain(
    path: Path | None, checkpoint: "Checkpoint | None", place: Path, family: str | None, *, is_candidate: bool,
    left: tuple[str, ...] = (),
) -> Iterator[Path | None]:  # fmt: skip
    if path is None or checkpoint is None or not (left or _is_copied(checkpoint, family, is_candidate=is_candidate)):
        yield path
        return
    from converters.paging import pager_of

    if pager_of(path):
        _refuse_copy(path)
    from converters.engine.output_folder import copy_file
    from converters.plain_copy import write_plain
    from converters.provenance import NAME

    with tempfile.TemporaryDirectory(prefix=f".{path.name}.plain-", dir=place) as folder:
        copy = write_plain(checkpoint, Path(folder) / path.name, family, right_tie=not is_candidate, left_out=left)
        if is_candidate and (checkpoint.folder / NAME).is_file():  # what the conversion recorded is judged too
            copy_file(checkpoint.folder / NAME, copy / NAME, durable=False)
        yield copy


def _refuse_copy(path: Path) -> None:
    """Raises UnverifiableError: the source is never whole on disk, and a copy of it would be."""
    from golden.errors import UnverifiableError

    raise UnverifiableError(
        f"transformers cannot load {path.parent.parent.name} as it is, and with --stream no copy of it is made; record"
        " it where there is room (convert golden record) and give --golden FILE"
    )


def _is_copied(checkpoint: "Checkpoint", family: str | None, *, is_candidate: bool) -> bool:
    """Whether transformers needs a copy; not of one that is not loaded at all: golden says why."""
    from converters.errors import ConversionError
    from converters.family import OURS, dialect_of
    from converters.family_of import family_of
    from converters.plain_copy import is_plain, says_itself

    if checkpoint.stored[0].suffix == ".distcp":
        return False  # torch puts its pieces together by itself
    try:
        name = family_of(checkpoint.config, family)
        if is_candidate and name != OURS:
            return not dialect_of(name) and not says_itself(checkpoint.config)
        return not dialect_of(name) and not is_plain(checkpoint, family)
    except ConversionError:
        return False
