"""What a journal is named by, so that it serves no other run, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from golden.evidence import live
from golden.evidence.live import journal_of
from golden.evidence.prompts import Prompt
from golden.models.running import ModelRunner
from golden.models.streamed_loading import open_streamed
from golden.models.streaming import journal
from golden.models.streaming.journal import FileJournal

PASSES = {(1, 2): torch.ones(1, 2, 3)}


@pytest.fixture
def model(reference: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference, tmp_path / "model"))


def journal_now(model: Path, attn: str | None = "eager", dtype: torch.dtype = torch.float64) -> FileJournal:
    found = journal_of(ModelRunner(open_streamed(model, dtype, attn)), [Prompt("a", (1, 2))])
    assert found is not None
    return found


@pytest.fixture
def written(cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The journal of a model, with something in it."""
    monkeypatch.setattr(journal, "EVERY", 0.0)
    journal_now(model).note(0, PASSES)
    assert journal_now(model).read(PASSES) is not None
    (path,) = cache.iterdir()
    return path


def replaced(model: Path) -> None:
    """Other weights of the same size, with the time of the former ones, as `cp -p` and tar leave it."""
    file = model / "model.safetensors"
    before, values = file.stat(), bytearray(file.read_bytes())
    values[-100] ^= 1
    file.write_bytes(values)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_files_of_the_same_size_and_time_have_another_journal(written: Path, model: Path) -> None:
    replaced(model)
    assert journal_now(model).read(PASSES) is None


def test_other_attention_and_precision_have_another_journal(written: Path, model: Path) -> None:
    assert journal_now(model, "sdpa").read(PASSES) is None
    assert journal_now(model, dtype=torch.float32).read(PASSES) is None


def test_other_code_has_another_journal(written: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "code_digest", lambda: "changed")
    assert journal_now(model).read(PASSES) is None
