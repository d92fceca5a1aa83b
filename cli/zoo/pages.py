"""`convert zoo FILE --html DIR`: a static page of all models, with a report of each, from the verdicts on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli.zoo.outcome import ERROR, Outcome


def write_pages(outcomes: Sequence[Outcome], home: Path, folder: Path) -> None:
    """Writes the pages.

    home: the folder that the outputs' paths begin at.

    Raises:
        TargetRefused: a file cannot be written.
    """
    from cli.reports.zoo_page import zoo_page

    zoo_page([_verdict(found, home) for found in outcomes], folder)


def _verdict(found: Outcome, home: Path) -> dict[str, Any]:
    """The verdict that the output of a model records; of one that has none, what is known of how it ended."""
    names = {"name": found.source, "family": found.family, "to": found.to}
    recorded = {} if found.status == ERROR else _recorded(home / found.output)
    if recorded.get("verdict") == found.status:
        return {**recorded, **names}
    levels = list(found.levels) or [_unjudged(found.error or "it was converted and not judged")]
    status = "UNVERIFIED" if found.status == ERROR else found.status
    return {"verdict": status, "levels": levels, "candidate": found.output, "reference": found.source, **names}


def _recorded(output: Path) -> dict[str, Any]:
    from converters.errors import ConversionError
    from converters.provenance import read_record

    try:
        parity = read_record(output).get("parity")
    except ConversionError:
        return {}
    return dict(parity) if isinstance(parity, dict) else {}


def _unjudged(why: str) -> dict[str, Any]:
    return {"name": "L2", "title": "function", "status": "UNVERIFIED", "detail": why}
