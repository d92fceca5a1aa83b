"""Passes that nobody waits for any longer are ended, however a verdict ends."""

from __future__ import annotations

import threading
import time
import warnings
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import logging

from converters import convert
from golden import Status, Verdict
from golden.errors import NoMemoryError, UnusableReferenceError
from golden.faults.model_copy import Patient, discharge
from golden.models.hot import make_hot
from golden.models.streaming.stored import Stored
from mixformer.blocks.sequential import SequentialBlock


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread, and the filters and the level of what is told are as before."""
    before = set(threading.enumerate()), list(warnings.filters), logging.get_verbosity()
    yield
    left = {thread for thread in threading.enumerate() if "reading-ahead" not in thread.name}
    assert (left - before[0], list(warnings.filters), logging.get_verbosity()) == (set(), *before[1:])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_after_a_verdict(judge: Callable[..., Verdict], mixformer: Path, reference: Path, dtype: str) -> None:
    assert judge(mixformer, reference, levels=["L2"], dtype=dtype).verdict is Status.PASS


def test_after_a_reference_that_cannot_serve(
    judge: Callable[..., Verdict], reference: Path, patient: Patient, tmp_path: Path
) -> None:
    patient.weights["model.norm.weight"][0] = float("nan")
    with pytest.raises(UnusableReferenceError):
        judge(reference, discharge(patient, reference, tmp_path), levels=["L2"])


def test_after_a_candidate_that_cannot_run_a_prompt(
    judge: Callable[..., Verdict], mixformer: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = SequentialBlock.forward

    def short(block: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if x.shape[1] > 100:
            raise ValueError("too long")
        return forward(block, x, *args, **kwargs)

    monkeypatch.setattr(SequentialBlock, "forward", short)
    assert judge(mixformer, reference, levels=["L2"]).verdict is Status.FAIL


def test_after_ctrl_c_between_layers(judge: Callable[..., Verdict], mixformer: Path, reference: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(mixformer, reference, levels=["L2"], progress=interrupt)


def test_after_ctrl_c_while_a_pass_runs(
    judge: Callable[..., Verdict], mixformer: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = SequentialBlock.forward, list[int]()

    def interrupting(block: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(0)
        if len(calls) == 1:
            interrupt_main()
            time.sleep(0.3)
        return forward(block, *args, **kwargs)

    monkeypatch.setattr(SequentialBlock, "forward", interrupting)
    with pytest.raises(KeyboardInterrupt):
        judge(mixformer, reference, levels=["L2"])
    assert len(calls) == 1  # no other pass went on, and this one no further


def test_no_memory_for_the_head_is_no_fault(
    judge: Callable[..., Verdict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_hot("ngpt-tutorial", tmp_path / "source")
    candidate = convert(source, output=tmp_path / "candidate").output  # its head has a bias, which is read as a whole
    reading = Stored.read

    def read(stored: Stored) -> torch.Tensor:
        if stored.places == ((candidate / "model.safetensors", "layers.4.linear.bias"),):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return reading(stored)

    monkeypatch.setattr(Stored, "read", read)
    with pytest.raises(NoMemoryError):
        judge(candidate, convert(source, output=tmp_path / "reference").output, levels=["L2"])
