"""Prompts that run through a model together, layer by layer, and go on where they were after a kill."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from converters import convert
from golden import Status, Verdict
from golden.errors import CannotRunError
from golden.faults.model_copy import admit, discharge
from golden.faults.self_testing import known_families
from golden.models.hot import make_hot
from golden.models.loading import load_model
from golden.models.running import ModelRunner, run_together
from golden.models.streamed_loading import open_streamed
from golden.models.streaming import journal, layer_stream
from golden.models.streaming.journal import FileJournal, hands_on
from golden.models.streaming.lockstep import Lockstep
from golden.references import is_native
from mixformer.blocks.sequential import SequentialBlock

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "dynamic": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, "max_position_embeddings": 24},
    ),
    "qwen3": ("qwen3", {}),
    "phi": ("phi", {}),
    "gpt2": ("gpt2", {"tie_word_embeddings": True}),
    "codegen": ("codegen", {}),
    "gemma2": ("gemma2", {}),
}


PROMPTS = tuple(tuple(range(start, start + length)) for start, length in ((3, 5), (9, 33), (50, 60), (70, 60), (1, 17)))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_prompts_that_run_together_give_the_same_logits_bit_for_bit(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    family, overrides = MODELS[name]
    source = make_hot(family, tmp_path, seed=5, **overrides)
    whole, streamed = (ModelRunner(opener(source, dtype, "eager")) for opener in (load_model, open_streamed))
    run_together(streamed.begin(PROMPTS))
    for ids in (*PROMPTS[::-1], PROMPTS[0]):  # in any order, and again after they were taken
        assert torch.equal(streamed.logits(ids), whole.logits(ids))


def test_each_layer_is_read_once_for_all_prompts(mixformer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, read = ModelRunner(open_streamed(mixformer, torch.float32)), list[str]()
    stream = runner.loaded.stream
    assert stream is not None
    reading = stream.read
    monkeypatch.setattr(stream, "read", lambda name: read.append(name) or reading(name))
    run_together(runner.begin(PROMPTS))
    for ids in PROMPTS:
        runner.logits(ids)
    known = {name for name, _ in runner.model.named_parameters()}
    assert len(read) == len(set(read)) and known - set(read) == {"layers.4.linear.weight"}  # the head: by its rows


def test_what_a_prompt_raises_is_raised_where_its_logits_are_asked_for(mixformer: Path) -> None:
    runner = ModelRunner(open_streamed(mixformer, torch.float32))
    bad = (1, 10**6)  # an id beyond the vocabulary
    run_together(runner.begin([PROMPTS[0], bad]))
    assert torch.isfinite(runner.logits(PROMPTS[0])).all()
    with pytest.raises(CannotRunError):
        runner.logits(bad)


@pytest.mark.parametrize("family", ["llama", "phi", "codegen", "gemma2"])
def test_a_head_that_is_read_in_blocks_of_rows_gives_the_same_logits(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_stream, "HEAD_BYTES", 5000)
    source = make_hot(family, tmp_path)
    whole, streamed = (ModelRunner(opener(source, torch.float64)) for opener in (load_model, open_streamed))
    stream, head = streamed.loaded.stream, whole.model.get_output_embeddings().weight
    assert stream is not None
    name = next(name for name, held in whole.model.named_parameters(remove_duplicate=False) if held is head)
    blocks = list(stream.read_rows(name))
    assert len(blocks) > 20 and torch.equal(torch.cat(blocks), head)
    assert torch.allclose(streamed.logits(PROMPTS[1]), whole.logits(PROMPTS[1]), rtol=1e-13, atol=1e-13)


def test_a_value_of_the_head_that_is_not_finite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_stream, "HEAD_BYTES", 5000)
    source = make_hot("llama", tmp_path)
    patient = admit(source)
    patient.weights["lm_head.weight"][300, 5] = float("nan")
    folder = discharge(patient, source, tmp_path / "broken")
    for opener in (load_model, open_streamed):
        found = opener(folder, torch.float32).name_nonfinite()
        assert found is not None and found.startswith("lm_head.weight: 1 of ")


def test_both_sides_run_in_step(
    judge: Callable[..., Verdict], mixformer: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped, step = list[Lockstep](), Lockstep.step
    monkeypatch.setattr(Lockstep, "step", lambda model: stepped.append(model) or step(model))
    assert judge(mixformer, reference, levels=["L2"]).verdict is Status.PASS
    one, other = dict.fromkeys(stepped)
    assert stepped[:12] == [one, other] * 6


# Ends by SIGKILL when the layer of that number is reached.
KILLED = """
import os, signal, sys
from pathlib import Path
from golden import case, compare
from golden.models.streaming import journal
journal.EVERY = 0.0
case.available_bytes = lambda: 0
need = case.Case(*map(Path, sys.argv[1:3]), None, None, frozenset(), dtype="float32").plan().need
case.available_bytes = lambda: need
def progress(what, done, total):
    if what == "function: layer by layer" and done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
compare(sys.argv[1], sys.argv[2], levels=["L2"], dtype="float32", progress=progress)
"""


def layers_run(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What layers are called from now on, once for each pass."""
    found = list[str]()
    for kind in (LlamaDecoderLayer, SequentialBlock):
        forward = kind.forward

        def seen(layer: Any, *args: Any, forward: Any = forward, **kwargs: Any) -> Any:
            found.append(type(layer).__name__)
            return forward(layer, *args, **kwargs)

        monkeypatch.setattr(kind, "forward", seen)
    return found


def kill_at(layer: int, candidate: Path, reference: Path) -> None:
    words = [sys.executable, "-c", KILLED, *map(str, (candidate, reference, layer))]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL


def test_a_killed_verdict_goes_on_at_its_layer_with_the_same_number(
    judge: Callable[..., Verdict], mixformer: Path, reference: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = judge(mixformer, reference, dtype="float32", levels=["L2"]).level("L2")
    kill_at(3, mixformer, reference)  # 0 is the embedding: two of three blocks are done
    assert len(list(cache.iterdir())) == 2
    run = layers_run(monkeypatch)
    again = judge(mixformer, reference, dtype="float32", levels=["L2"]).level("L2")
    assert (again.number, again.readings, again.detail) == (expected.number, expected.readings, expected.detail)
    prompts = len(expected.readings) - 1  # without the table of embeddings
    assert Counter(run) == {"LlamaDecoderLayer": prompts + 2, "SequentialBlock": prompts}  # the third block alone
    assert list(cache.iterdir()) == []


def test_other_weights_do_not_go_on_where_the_former_were(
    judge: Callable[..., Verdict], mixformer: Path, reference: Path, cache: Path, tmp_path: Path
) -> None:
    candidate = discharge(admit(mixformer), mixformer, tmp_path / "candidate")
    kill_at(3, candidate, reference)
    patient = admit(mixformer)
    patient.swap("0.o", "1.o")
    shutil.rmtree(candidate)
    discharge(patient, mixformer, candidate)
    assert judge(candidate, reference, dtype="float32", levels=["L2"]).level("L2").status is Status.FAIL


@pytest.mark.parametrize("broken", [b"", b"not a journal", None])
def test_a_journal_that_cannot_be_read_is_none(
    broken: bytes | None, judge: Callable[..., Verdict], mixformer: Path, reference: Path, cache: Path
) -> None:
    kill_at(2, mixformer, reference)
    for path in list(cache.iterdir()):
        path.write_bytes(path.read_bytes()[:-9] if broken is None else broken)
    assert judge(mixformer, reference, dtype="float32", levels=["L2"]).verdict is Status.PASS


def test_a_journal_that_cannot_be_written_costs_nothing_else(
    judge: Callable[..., Verdict], mixformer: Path, reference: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "EVERY", 0.0)
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"a file in its place")
    assert judge(mixformer, reference, levels=["L2"]).verdict is Status.PASS


def test_a_short_verdict_writes_no_journal(
    judge: Callable[..., Verdict], mixformer: Path, reference: Path, cache: Path
) -> None:
    assert judge(mixformer, reference, levels=["L2"]).verdict is Status.PASS
    assert not cache.exists()


FEW = ("falcon", "gemma3", "gptneox", "mixtral", "opt")
"""Families whose blocks take or give other things than LLaMA's; the others are slow tests."""


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=[] if name in FEW else pytest.mark.slow) for name in known_families()[0]],
)
def test_passes_of_every_family_go_on_between_two_layers(
    family: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "EVERY", 0.0)
    source = make_hot(family, tmp_path / "source")
    for folder in (source, convert(source, to="mixformer", output=tmp_path / "ours").output):
        if is_native(folder):  # is loaded as a whole
            continue
        whole = ModelRunner(load_model(folder, torch.float64, "eager"))
        for _ in range(2):  # the second goes on where the first was
            streamed = ModelRunner(open_streamed(folder, torch.float64, "eager"))
            kept = FileJournal(folder, [torch.float64])
            begun = streamed.begin(PROMPTS[:2], journal=kept)
            if begun is None:  # such a model remembers the length of a prompt
                break
            for _ in range(3):
                begun.step()
        else:
            assert hands_on(streamed.model) == (family == "ngpt-lucidrains")
            assert hands_on(streamed.model) == (kept.read(PROMPTS[:2]) is None)
            run_together(begun)
            for ids in PROMPTS[:2]:
                assert torch.equal(streamed.logits(ids), whole.logits(ids))
