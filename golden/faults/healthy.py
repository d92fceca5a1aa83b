"""Correct variants of a candidate, which must pass: other files, backends, dtypes, numbers of threads, shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from golden.evidence.live import Evidence
from golden.faults.model_copy import admit, discharge
from golden.levels.behaviour import judge_behaviour
from golden.levels.function import FLOAT64, judge_function
from golden.levels.kernels import judge_kernels
from golden.models.loading import LoadedModel, load_model, silenced
from golden.models.running import ModelRunner
from golden.verdict import LevelResult

Judge = Callable[[Path, Evidence, Path], LevelResult]


@dataclass(frozen=True)
class Variant:
    """One correct variant of a candidate. ``judge`` takes its folder, the evidence and an empty folder."""

    name: str
    judge: Judge


def healthy_variants() -> Iterator[Variant]:
    """All variants; each must pass."""
    yield Variant("as converted", _after(lambda folder, _: folder))
    for attn in ("eager", "sdpa"):
        yield Variant(f"{attn} attention", _with_attention(attn))
    for threads in (1, 3):
        yield Variant(f"{threads} threads", _on_threads(threads))
    yield Variant("in a batch of three", lambda f, e, _: judge_function(_BatchRunner(load_wide(f)), e, FLOAT64))
    yield Variant("re-saved by transformers", _after(lambda f, s: _resaved(f, s, "5GB")))
    yield Variant("re-saved in shards", _after(lambda f, s: _resaved(f, s, "60KB")))
    yield Variant("tensors in another order, no conversion.json", _after(_reordered))
    yield Variant("weights stored in float64", _after(lambda f, s: _stored_as(f, s, torch.float64)))
    yield Variant("vocabulary padded", _after(_padded))
    yield Variant("behaviour", lambda f, e, _: judge_behaviour(ModelRunner(load_wide(f)), e, FLOAT64))
    for dtype in ("bfloat16", "float16"):
        for attn in ("eager", "sdpa"):
            yield Variant(f"{attn} kernels in {dtype}", _in_kernels(dtype, attn))


def load_wide(folder: Path, attn: str | None = None) -> LoadedModel:
    """The candidate in float64."""
    return load_model(folder, torch.float64, attn)


def _with_attention(attn: str | None) -> Judge:
    return lambda folder, evidence, _: judge_function(ModelRunner(load_wide(folder, attn)), evidence, FLOAT64)


def _after(change: Callable[[Path, Path], Path]) -> Judge:
    """Judges the function of what ``change`` writes into the empty folder."""
    judge = _with_attention(None)
    return lambda folder, evidence, scratch: judge(change(folder, scratch), evidence, scratch)


def _in_kernels(dtype: str, attn: str) -> Judge:
    return lambda folder, evidence, _: judge_kernels(folder, evidence, [dtype], attn)


def _on_threads(count: int) -> Judge:
    def judge(folder: Path, evidence: Evidence, scratch: Path) -> LevelResult:
        with threads(count):
            return _with_attention(None)(folder, evidence, scratch)

    return judge


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute on ``count`` threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _BatchRunner(ModelRunner):
    """Runs every prompt as the first of three equal rows."""

    def batch(self, ids: Sequence[int]) -> Tensor:
        return super().batch(ids).repeat(3, 1)


def _resaved(folder: Path, scratch: Path, shard: str) -> Path:
    model = load_model(folder, torch.float32).model
    with silenced():
        model.save_pretrained(scratch, max_shard_size=shard)
    return scratch


def _reordered(folder: Path, scratch: Path) -> Path:
    patient = admit(folder)
    patient.weights = dict(reversed(patient.weights.items()))
    return discharge(patient, folder, scratch)


def _stored_as(folder: Path, scratch: Path, dtype: torch.dtype) -> Path:
    patient = admit(folder)
    patient.weights = {key: tensor.to(dtype) for key, tensor in patient.weights.items()}
    return discharge(patient, folder, scratch)


def _padded(folder: Path, scratch: Path) -> Path:
    patient = admit(folder)
    rows = patient.config["vocab_size"]
    parts = (patient.anatomy.parts.get(role) for role in ("embed", "head", "head_bias"))
    unused = (key for key in patient.weights if key.endswith(".logit_scale.weight"))  # by evintunador's nGPT
    for key in {*(part.key for part in parts if part is not None), *unused}:
        tensor = patient.weights[key]
        patient.weights[key] = torch.cat((tensor, tensor.new_zeros(5, *tensor.shape[1:])))
    patient.config["vocab_size"] = rows + 5
    return discharge(patient, folder, scratch)
