"""Inside of `silenced`, transformers says nothing; afterwards it says what it said before."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers.utils import logging as spoken

from golden.models.loading import load_model, silenced
from golden.models.running import ModelRunner


@pytest.fixture(params=[logging.INFO, logging.ERROR, logging.CRITICAL])
def verbosity(request: pytest.FixtureRequest) -> Iterator[int]:
    before = spoken.get_verbosity()
    spoken.set_verbosity(request.param)
    yield request.param
    spoken.set_verbosity(before)


def test_silence_ends_where_the_outermost_ends(verbosity: int, capfd: pytest.CaptureFixture[str]) -> None:
    spoken.enable_progress_bar()
    with silenced():
        with silenced():
            pass
        assert spoken.get_verbosity() == logging.CRITICAL and not spoken.is_progress_bar_enabled()
        spoken.get_logger("transformers.x").error("heard")
        warnings.warn("heard", stacklevel=1)
    assert spoken.get_verbosity() == verbosity and spoken.is_progress_bar_enabled()
    assert "heard" not in "".join(capfd.readouterr())


def test_what_sets_another_verbosity_inside_does_not_keep_it(verbosity: int) -> None:
    with silenced():
        spoken.set_verbosity(logging.DEBUG)
        with silenced():
            assert spoken.get_verbosity() == logging.CRITICAL
        assert spoken.get_verbosity() == logging.DEBUG
    assert spoken.get_verbosity() == verbosity


def test_levels_are_set_only_where_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    with silenced():
        monkeypatch.setattr(spoken, "set_verbosity", set_to.append)
        with silenced():
            pass
        monkeypatch.undo()
    assert set_to == []


def test_attention_is_set_and_set_back_in_silence(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = ModelRunner(load_model(reference, torch.float32, "eager"))
    heard, setting = list[int](), runner.model.set_attn_implementation

    def hear(name: str) -> None:
        heard.append(spoken.get_verbosity())
        setting(name)

    monkeypatch.setattr(runner.model, "set_attn_implementation", hear)
    with runner.attention("sdpa"):
        assert runner.model.config._attn_implementation == "sdpa"
    assert runner.model.config._attn_implementation == "eager"
    assert heard == [logging.CRITICAL] * 2
