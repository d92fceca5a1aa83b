"""Judging with the memory of one layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from golden import Verdict, case, compare
from golden.case import Case
from golden.evidence.golden_file import read_golden


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Verdict]:
    """Compare on a machine with just the memory that one layer of each side needs, in float64 if not said otherwise."""

    def run(candidate: Path, reference: Path | None = None, dtype: str = "float64", **options: Any) -> Verdict:
        monkeypatch.setattr(case, "available_bytes", lambda: 0)
        golden = options.get("golden")
        asked = Case(candidate, reference, golden, golden and read_golden(golden), frozenset(), dtype=dtype)
        need = asked.plan().need
        monkeypatch.setattr(case, "available_bytes", lambda: need)
        return compare(candidate, reference, dtype=dtype, **options)

    return run


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the journals, for this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mixformer-convert" / "verdicts"
