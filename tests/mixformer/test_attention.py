"""One table of cases; every backend has to give what the definition gives, computed key by key."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from mixformer import attention as attention_module
from mixformer.attention import ScoreRule, attention
from mixformer.blocks.mixers.alibi import alibi_slopes
from mixformer.errors import AttentionBackendError, MissingPackageError
from mixformer.visibility import Visibility

LEFT, RIGHT = [0, 0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0, 0, 0]
PACKED, OTHER = [1, 1, 1, 2, 2, 3, 3, 3, 3], [1, 2, 2, 2, 2, 2, 2, 2, 3]


@dataclass(frozen=True)
class Case:
    """A call of the attention function; `segments` has one list per row."""

    name: str
    queries: int = 9
    keys: int = 9
    heads: int = 4
    kv_heads: int = 4
    size: int = 8
    causal: bool = True
    window: tuple[int, int] = (-1, -1)
    softcap: float = 0.0
    alibi: bool = False
    scale: float | None = None
    segments: tuple[list[int], ...] | None = None
    start: int | None = None
    tensor_start: bool = False

    def visibility(self, device: str = "cpu") -> Visibility:
        segments = None if self.segments is None else torch.tensor(self.segments, device=device)
        start = torch.tensor(self.start, device=device) if self.tensor_start else self.start
        return Visibility(self.causal, self.window, segments, start)

    def rule(self, device: str = "cpu") -> ScoreRule:
        slopes = torch.tensor(alibi_slopes(self.heads), device=device) if self.alibi else None
        return ScoreRule(self.scale or self.size**-0.5, self.softcap, slopes)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(len(self.name))
        shapes = ((self.queries, self.heads), (self.keys, self.kv_heads), (self.keys, self.kv_heads))
        return tuple(1.5 * torch.randn(2, *s, self.size, dtype=torch.float64, generator=generator) for s in shapes)

    def sees(self, row: int, query: int, key: int) -> int | None:
        """How far before the query the key stands, padding left out; None if it is not seen."""
        start = self.keys - self.queries if self.start is None else self.start
        segments = [1] * self.keys if self.segments is None else self.segments[row]
        at = start + query
        if at < 0 or segments[key] == 0 or segments[key] != segments[at]:
            return None if self.segments is not None or at >= 0 or self.causal else at - key
        distance = sum(s != 0 for s in segments[:at]) - sum(s != 0 for s in segments[:key])
        left, right = self.window[0], 0 if self.causal else self.window[1]
        hidden = (left != -1 and distance > left) or (right != -1 and -distance > right)
        return None if hidden else distance


CASES = [
    Case("causal"),
    Case("not causal", causal=False),
    Case("one query head per pair", kv_heads=2),
    Case("multi-query", kv_heads=1),
    Case("head size 20", size=20, kv_heads=2),
    Case("head size 5", size=5),
    Case("own scale", scale=0.9),
    Case("window to the left", window=(3, 0)),
    Case("window of itself", window=(0, 0)),
    Case("causal window with a right side", window=(2, 4)),
    Case("two-sided window", window=(3, 2), causal=False),
    Case("window to the right only", window=(-1, 2), causal=False),
    Case("window to the left only", window=(3, -1), causal=False),
    Case("window longer than the sequence", window=(100, 100)),
    Case("window just as long", window=(8, 0)),
    Case("softcap", softcap=2.0),
    Case("softcap in a window", softcap=2.0, window=(3, 0), kv_heads=2),
    Case("alibi", alibi=True),
    Case("alibi not causal", alibi=True, causal=False),
    Case("alibi in a window with 6 heads", alibi=True, window=(4, 0), heads=6, kv_heads=3),
    Case("alibi with softcap", alibi=True, softcap=3.0),
    Case("decoding one token", queries=1),
    Case("decoding one token in a window", queries=1, window=(3, 0), kv_heads=2),
    Case("decoding one token with alibi", queries=1, alibi=True),
    Case("chunk onto a cache", queries=4, kv_heads=2),
    Case("chunk onto a cache in a window", queries=4, window=(2, 0)),
    Case("chunk onto a cache with alibi", queries=4, alibi=True),
    Case("fewer queries not causal", queries=4, causal=False),
    Case("fewer queries in a two-sided window", queries=4, causal=False, window=(2, 1)),
    Case("more queries than keys", queries=9, keys=5),
    Case("padding left", segments=(LEFT, [1] * 9), kv_heads=2),
    Case("padding right", segments=(RIGHT, LEFT)),
    Case("padding not causal", segments=(RIGHT, LEFT), causal=False),
    Case("padding in a window", segments=(RIGHT, LEFT), window=(2, 0)),
    Case("padding with alibi", segments=(LEFT, RIGHT), alibi=True),
    Case("padding with softcap", segments=(LEFT, RIGHT), softcap=2.0),
    Case("a row of padding only", segments=([0] * 9, LEFT)),
    Case("all padding", segments=([0] * 9, [0] * 9)),
    Case("holes in a window with alibi", segments=([1, 0, 1, 1, 0, 0, 1, 1, 1], LEFT), window=(2, 0), alibi=True),
    Case("decoding with padding left", segments=(LEFT, [1] * 9), queries=1),
    Case("chunk with padding left", segments=(LEFT, [1] * 9), queries=4, window=(3, 0)),
    Case("chunk with padding right", segments=(RIGHT, [1] * 9), queries=6),
    Case("packed samples", segments=(PACKED, OTHER), kv_heads=2),
    Case("packed samples not causal", segments=(PACKED, OTHER), causal=False),
    Case("packed samples in a window", segments=(PACKED, OTHER), window=(1, 0)),
    Case("packed samples with alibi", segments=(PACKED, OTHER), alibi=True),
    Case("packed and padded", segments=([0, *PACKED[:-1]], [*OTHER[:-2], 0, 0])),
    Case("packed samples onto a cache", segments=(PACKED, OTHER), queries=5),
    Case("static cache", queries=3, start=2, kv_heads=2),
    Case("static cache from its start", queries=4, start=0),
    Case("static cache that counts in a tensor", queries=3, start=4, tensor_start=True, window=(3, 0)),
    Case("static cache with padding", queries=3, start=4, segments=(LEFT, [1] * 9)),
    Case("static cache decoding with alibi", queries=1, start=5, alibi=True, tensor_start=True),
]


def definition(case: Case) -> Tensor:
    """Attention in float64, one query and one head at a time."""
    q, k, v = case.tensors()
    slopes = alibi_slopes(case.heads)
    out = torch.zeros(2, case.queries, case.heads, case.size, dtype=torch.float64)
    for row in range(2):
        for query in range(case.queries):
            seen = {key: d for key in range(case.keys) if (d := case.sees(row, query, key)) is not None}
            for head in range(case.heads if seen else 0):
                kv = head // (case.heads // case.kv_heads)
                scores = []
                for key, distance in seen.items():
                    score = float(q[row, query, head] @ k[row, key, kv]) * case.rule().scale
                    score = case.softcap * math.tanh(score / case.softcap) if case.softcap else score
                    scores.append(score - (slopes[head] * abs(distance) if case.alibi else 0.0))
                weights = torch.softmax(torch.tensor(scores, dtype=torch.float64), 0)
                out[row, query, head] = weights @ v[row, list(seen), kv]
    return out


by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@by_name
@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_a_backend_gives_the_definition_in_float64(case: Case, backend: str) -> None:
    found = attention(*case.tensors(), backend=backend, visibility=case.visibility(), rule=case.rule())
    assert (found - definition(case)).abs().max() <= 1e-12


@by_name
def test_eager_and_sdpa_agree_on_a_mask_made_beforehand_and_in_gradients(case: Case) -> None:
    mask = case.visibility().mask(case.queries, case.keys, torch.device("cpu"))
    gradients = []
    for backend in ("eager", "sdpa"):
        inputs = [x.requires_grad_() for x in case.tensors()]
        out = attention(*inputs, backend=backend, visibility=case.visibility(), rule=case.rule(), mask=mask)
        assert (out - definition(case)).abs().max() <= 1e-12
        gradients.append(torch.autograd.grad(out.pow(2).sum(), inputs))
    for eager, sdpa in zip(*gradients, strict=True):
        assert torch.isfinite(eager).all()
        assert (eager - sdpa).abs().max() <= 1e-11


@by_name
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_flash_over_stand_in_kernels_gives_the_definition(
    case: Case, dtype: torch.dtype, flash_package: ModuleType
) -> None:
    inputs = [x.to(dtype) for x in case.tensors()]
    found = attention(*inputs, backend="flash_attention_2", visibility=case.visibility(), rule=case.rule())
    assert found.dtype == dtype
    error = (found.double() - definition(case)).abs().max()
    assert error <= {torch.float16: 1e-2, torch.bfloat16: 8e-2}[dtype]


@pytest.mark.gpu
@by_name
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", ["eager", "sdpa", "flash_attention_2"])
def test_a_backend_gives_the_definition_on_a_gpu(case: Case, dtype: torch.dtype, backend: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if backend == "flash_attention_2":
        pytest.importorskip("flash_attn", reason="needs flash-attn", exc_type=ImportError)
    inputs = [x.to("cuda", dtype) for x in case.tensors()]
    found = attention(*inputs, backend=backend, visibility=case.visibility("cuda"), rule=case.rule("cuda"))
    error = (found.double().cpu() - definition(case)).abs().max()
    assert error <= {torch.float16: 1e-2, torch.bfloat16: 8e-2}[dtype]


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": (4, 0)},
        {"window": (2, 0)},
        {"causal": False, "window": (3, -1)},
        {"scale": 0.36},
        {"softcap": 50.0},
        {"alibi": True},
        {"segments": (LEFT, LEFT)},
    ],
    ids=str,
)
def test_the_table_would_notice_a_fault(wrong: dict[str, Any]) -> None:
    right = Case("window to the left", window=(3, 0))
    faulty = Case(**{**right.__dict__, **wrong})
    found = attention(*right.tensors(), backend="sdpa", visibility=faulty.visibility(), rule=faulty.rule())
    assert (found - definition(right)).abs().max() > 1e-4


def test_each_backend_calls_its_own_kernel(monkeypatch: pytest.MonkeyPatch, flash_package: ModuleType) -> None:
    calls: list[str] = []

    def spy(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return kernel(*args, **kwargs)

        return call

    functional = attention_module.F
    real = (functional.softmax, functional.scaled_dot_product_attention)
    monkeypatch.setattr(functional, "softmax", spy("softmax", real[0]))
    monkeypatch.setattr(functional, "scaled_dot_product_attention", spy("sdpa", real[1]))
    for name in ("flash_attn_func", "flash_attn_varlen_func"):
        monkeypatch.setattr(flash_package, name, spy(name, getattr(flash_package, name)))
    dense, padded = Case("causal"), Case("padding left", segments=(LEFT, LEFT))
    for backend, case in (
        ("eager", dense),
        ("sdpa", dense),
        ("flash_attention_2", dense),
        ("flash_attention_2", padded),
    ):
        inputs = [x.half() for x in case.tensors()]
        attention(*inputs, backend=backend, visibility=case.visibility(), rule=case.rule())
    assert calls == ["softmax", "sdpa", "flash_attn_func", "flash_attn_varlen_func"]


def run_flash(dtype: torch.dtype = torch.float16, rule: ScoreRule | None = None, **kwargs: Any) -> Tensor:
    case = Case("causal", **kwargs)
    inputs = [x.to(dtype) for x in case.tensors()]
    return attention(*inputs, backend="flash_attention_2", visibility=case.visibility(), rule=rule or case.rule())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flash_refuses_wide_dtypes_instead_of_rounding(dtype: torch.dtype, flash_package: ModuleType) -> None:
    with pytest.raises(AttentionBackendError, match=f"computes in float16 or bfloat16, but got {dtype}"):
        run_flash(dtype)


def test_flash_refuses_what_its_kernels_refuse(flash_package: ModuleType) -> None:
    with pytest.raises(AttentionBackendError, match="head_dim up to 256, but got 264"):
        run_flash(size=264)
    with pytest.raises(AttentionBackendError, match="softcap with dropout"):
        run_flash(rule=ScoreRule(1.0, softcap=1.0, dropout=0.5))


def test_flash_refuses_a_tensor_on_the_cpu() -> None:
    with pytest.raises(AttentionBackendError, match=r"runs on \('cuda',\), but got a tensor on cpu"):
        run_flash()


def test_flash_without_its_package_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "FLASH_DEVICES", ("cpu",))
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    with pytest.raises(MissingPackageError, match="flash_attn cannot be imported"):
        run_flash()


def test_an_unknown_backend_is_refused_rather_than_replaced() -> None:
    case = Case("causal")
    with pytest.raises(AttentionBackendError, match=r"must be one of .'eager', 'sdpa', 'flash_attention_2'., but got"):
        attention(*case.tensors(), backend="flex_attention", visibility=case.visibility(), rule=case.rule())


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_dropout_drops_and_keeps_the_mean(backend: str) -> None:
    q, k, _ = (torch.zeros(1, 1, 1, 8) for _ in range(3))
    q, k = q.expand(1, 4000, 1, 8), k.expand(1, 2, 1, 8)
    v = torch.ones(1, 2, 1, 8)
    rule = ScoreRule(1.0, dropout=0.5)
    out = attention(q, k, v, backend=backend, visibility=Visibility(causal=False), rule=rule)
    assert {0.0, 1.0, 2.0} == set(out[..., 0].flatten().tolist())
    assert abs(float(out.mean()) - 1.0) < 0.1
