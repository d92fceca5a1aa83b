"""What a journal is named by, so that it serves no other run, and what it leaves alone."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from golden import Status, Verdict
from golden.evidence import live
from golden.evidence.live import journal_of
from golden.evidence.prompts import Prompt
from golden.models.hot import make_hot
from golden.models.loading import load_model, silenced
from golden.models.running import ModelRunner, run_together
from golden.models.streamed_loading import open_streamed
from golden.models.streaming import journal
from golden.models.streaming.journal import FileJournal

LONGER = ((1, 2, 3, 4), (5, 6, 7, 8, 9, 10))
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


def going_on(folder: Path, steps: int, dtype: torch.dtype) -> ModelRunner:
    """A run that goes on where another was after so many layers, if it can."""
    for _ in range(2):
        runner = ModelRunner(open_streamed(folder, dtype, "eager"))
        begun = runner.begin(LONGER, journal=FileJournal(folder, [dtype]))
        assert begun is not None
        for _ in range(steps):
            begun.step()
    run_together(begun)
    return runner


def test_routers_whose_logits_are_asked_for_run_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "EVERY", 0.0)
    source = make_hot("mixtral", tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "output_router_logits": True}))
    whole = ModelRunner(load_model(source, torch.float32, "eager"))
    found = going_on(source, config["num_hidden_layers"] + 1, torch.float32)
    assert all(torch.equal(found.logits(ids), whole.logits(ids)) for ids in LONGER)


def test_layers_that_share_keys_and_values_run_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma 4: the last layers take keys and values of earlier ones. Converters has no family for it."""
    if not hasattr(transformers, "Gemma4TextConfig"):
        pytest.skip("this transformers has no Gemma 4")
    monkeypatch.setattr(journal, "EVERY", 0.0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    heads = {"head_dim": 8, "global_head_dim": 8, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2}
    layers = {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
    config = transformers.Gemma4TextConfig(vocab_size=300, vocab_size_per_layer_input=300, **sizes, **heads, **layers)
    with silenced():
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "source")
    whole = ModelRunner(load_model(tmp_path / "source", torch.float32, "eager"))
    found = going_on(tmp_path / "source", 6, torch.float32)
    assert all(torch.equal(found.logits(ids), whole.logits(ids)) for ids in LONGER)


def test_a_model_that_is_run_as_a_whole_has_no_journal(reference: Path) -> None:
    assert journal_of(ModelRunner(load_model(reference, torch.float64)), [Prompt("a", (1, 2))]) is None
