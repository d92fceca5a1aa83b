"""L0 and L1, structure and weights: compared through the mapping of converters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from golden.errors import FolderError
from golden.levels.beside_weights import compare_beside
from golden.verdict import LevelResult, Status
from golden.watching import Progress

if TYPE_CHECKING:
    from converters.alignment import Alignment

NAMED = 5
"""A detail names at most this many keys, then it says how many more there are."""


def judge_structure_and_weights(
    candidate: Path, reference: Path, wanted: frozenset[str], progress: Progress | None = None
) -> Iterator[LevelResult]:
    """L0 and L1, as far as they are in ``wanted``, each as soon as it is judged.

    Raises:
        FolderError: one of the folders cannot be read.
    """
    from converters.alignment import align
    from converters.errors import ConversionError

    try:
        alignment = align(candidate, reference)
        if "L0" in wanted:
            beside = compare_beside(candidate, reference)
            notes = (*_stored_wider(alignment), *beside.notes)
            yield structure_level((*alignment.problems, *beside.problems), (*alignment.doubts, *beside.doubts), notes)
        if "L1" in wanted:
            yield _weights(alignment, progress)
    except ConversionError as unreadable:
        raise FolderError(str(unreadable)) from unreadable


def _stored_wider(alignment: Alignment) -> Iterator[str]:
    wider = list(alignment.wider())
    if wider:
        yield f"stored in a wider dtype, with the same numbers: {first_named(wider)}"


def structure_level(problems: Sequence[str], doubts: Sequence[str], notes: Sequence[str]) -> LevelResult:
    """L0 from sentences; the number is that of problems and doubts."""
    status = Status.FAIL if problems else Status.UNVERIFIED if doubts else Status.PASS
    told = [first_named(problems), f"not judged: {first_named(doubts)}" if doubts else "", *notes]
    count = float(len(problems) + len(doubts))
    return LevelResult("L0", status, count, 0.0, "; ".join(text for text in told if text))


def first_named(sentences: Sequence[str]) -> str:
    """The first few sentences, and how many more there are."""
    more = f"; and {len(sentences) - NAMED} more" if len(sentences) > NAMED else ""
    return "; ".join(sentences[:NAMED]) + more


def _weights(alignment: Alignment, progress: Progress | None) -> LevelResult:
    """Bitwise: the number is that of tensors which differ."""
    if alignment.unplanned:
        count, tensors = alignment.unplanned, "tensor was" if alignment.unplanned == 1 else "tensors were"
        reason = f"{count} {tensors} not compared: {first_named(alignment.problems)}"
        return LevelResult("L1", Status.UNVERIFIED, None, 0.0, reason, required=alignment.mapped)
    differing = alignment.differing(progress and partial(progress, "weights, bytes"))
    named = list(islice(differing, NAMED))
    count = len(named) + sum(1 for _ in differing)
    details = []
    for found in named:
        where = "" if found.element is None else f" at element {found.element}"
        details.append(f"{found.candidate_key}{where} ({found.reference_key}): {found.reason}")
    if count > len(named):
        details.append(f"and {count - len(named)} more")
    return LevelResult("L1", Status.FAIL if count else Status.PASS, float(count), 0.0, "; ".join(details))
