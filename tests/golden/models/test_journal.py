"""What a journal is named by, so that it serves no other run, and what it leaves alone."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from golden import Status, Verdict
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


def test_only_old_journals_are_removed(written: Path, cache: Path, model: Path) -> None:
    old, foreign = cache / f"{'0' * 64}.safetensors", [cache / "notes.txt", cache / "mine.safetensors", cache / "kept"]
    foreign[2].mkdir()
    for path in (old, *foreign[:2]):
        path.write_bytes(b"")
    for path in (old, *foreign):
        os.utime(path, (0, 0))
    (cache / f"{'1' * 64}.safetensors").symlink_to(cache / "nothing")
    written.unlink()
    journal_now(model).note(0, PASSES)
    assert written.exists() and not old.exists() and all(path.exists() for path in foreign)


def test_nobody_else_may_read_what_is_kept(written: Path, cache: Path) -> None:
    assert cache.stat().st_mode & 0o077 == 0


def test_a_user_without_a_home_has_no_journal(
    judge: Callable[..., Verdict], mixformer: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(journal, "EVERY", 0.0)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert judge(mixformer, reference, levels=["L2"]).verdict is Status.PASS
